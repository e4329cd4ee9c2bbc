package etcd

import (
	"context"
	"errors"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// WithBallot is the cluster with other elections.
func WithBallot(c *Cluster, b Ballot) *Cluster { return New(c.client, c.prefix, b) }

// Interrupted is the cluster with a connection that cut ends after so many more requests.
func Interrupted(c *Cluster) (interrupted *Cluster, cut func(after int)) {
	kv := &interruptible{KV: c.client.KV}
	kv.left.Store(1 << 30)
	client := clientv3.NewCtxClient(context.Background())
	client.KV = kv
	return New(client, c.prefix, c.ballot), func(after int) { kv.left.Store(int64(after)) }
}

type interruptible struct {
	clientv3.KV
	left atomic.Int64
}

func (i *interruptible) Txn(ctx context.Context) clientv3.Txn {
	return &cutTxn{i.KV.Txn(ctx), i}
}

type cutTxn struct {
	clientv3.Txn
	by *interruptible
}

func (c *cutTxn) If(cs ...clientv3.Cmp) clientv3.Txn   { c.Txn = c.Txn.If(cs...); return c }
func (c *cutTxn) Then(ops ...clientv3.Op) clientv3.Txn { c.Txn = c.Txn.Then(ops...); return c }
func (c *cutTxn) Else(ops ...clientv3.Op) clientv3.Txn { c.Txn = c.Txn.Else(ops...); return c }

func (c *cutTxn) Commit() (*clientv3.TxnResponse, error) {
	if c.by.left.Add(-1) < 0 {
		return nil, errors.Join(errors.New("cut"), rpctypes.ErrPermissionDenied) // no use in repeating
	}
	return c.Txn.Commit()
}
