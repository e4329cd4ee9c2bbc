package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
)

const (
	dialWithin   = 5 * time.Second
	askWithin    = 3 * time.Second        // one request to etcd
	settleWithin = 10 * time.Second       // a write, with all its repetitions
	pause        = 100 * time.Millisecond // before a request is repeated
	leaseSeconds = 3                      // for which a leader that is silent stays elected
)

// Ballot says who is elected.
type Ballot interface {
	// Elect waits until this process is, and publishes the announcement for the others. The
	// context that it returns ends when the process is not elected any more, and not with
	// ctx; resign gives the office up.
	Elect(ctx context.Context, announcement string) (tenure context.Context, resign func(), err error)
	// Leader returns what the leader of the moment announced; "" if none is known.
	Leader(ctx context.Context) (string, error)
	// Close ends the candidacy.
	Close() error
}

// Cluster is an etcd and this process's standing in it. It is safe for concurrent use.
type Cluster struct {
	client *clientv3.Client
	prefix string
	ballot Ballot
}

// New returns a cluster whose elections are another's. The prefix begins every key.
func New(client *clientv3.Client, prefix string, ballot Ballot) *Cluster {
	return &Cluster{client, prefix, ballot}
}

// Config names an etcd that runs by itself.
type Config struct {
	Endpoints []string // HOST:PORT
	Prefix    string   // of every key; another one is another store
}

// Dial returns the cluster in an etcd that runs by itself; elections are by lease. It fails if
// none of the endpoints answers.
func Dial(ctx context.Context, cfg Config) (*Cluster, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: cfg.Endpoints, DialTimeout: dialWithin, Logger: zap.NewNop(),
		DialKeepAliveTime: dialWithin, DialKeepAliveTimeout: askWithin,
	})
	if err != nil {
		return nil, fmt.Errorf("dial etcd at %q: %w", cfg.Endpoints, err)
	}
	ask, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	if _, err := client.Get(ask, cfg.Prefix+officeKey, clientv3.WithSerializable()); err != nil {
		return nil, errors.Join(fmt.Errorf("ask etcd at %q: %w", cfg.Endpoints, err), client.Close())
	}
	return New(client, cfg.Prefix, &lease{client, cfg.Prefix + "election"}), nil
}

// Lead waits until this process is elected, takes office and returns the store, which must be
// closed. The announcement is what Leader returns to the others meanwhile.
func (c *Cluster) Lead(ctx context.Context, announcement string) (*Store, error) {
	tenure, resign, err := c.ballot.Elect(ctx, announcement)
	if err != nil {
		return nil, fmt.Errorf("stand for election: %w", err)
	}
	s, err := open(tenure, c.client.KV, c.prefix)
	if err != nil {
		resign()
		return nil, err
	}
	s.resign = resign
	return s, nil
}

// Leader returns what the leader of the moment announced; "" if none is known.
func (c *Cluster) Leader(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	return c.ballot.Leader(ctx)
}

// Close ends the candidacy; stores must be closed before.
func (c *Cluster) Close() error {
	err := c.client.Close()
	if errors.Is(err, context.Canceled) {
		err = nil // so says one that has no connection
	}
	return errors.Join(err, c.ballot.Close())
}

// lease is a ballot by who holds the oldest key of a living lease.
type lease struct {
	client *clientv3.Client
	key    string
}

func (l *lease) Elect(ctx context.Context, announcement string) (context.Context, func(), error) {
	session, err := concurrency.NewSession(l.client, concurrency.WithTTL(leaseSeconds))
	if err != nil {
		return nil, nil, fmt.Errorf("get a lease: %w", err)
	}
	stand, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(session.Ctx(), stop)()
	if err := concurrency.NewElection(session, l.key).Campaign(stand, announcement); err != nil {
		return nil, nil, errors.Join(err, session.Close())
	}
	tenure, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(session.Ctx(), cancel)
	return tenure, func() {
		cancel()
		_ = session.Close() // a lease that can't be given back ends by itself
	}, nil
}

func (l *lease) Leader(ctx context.Context) (string, error) {
	// The oldest key's owner leads. It is no promise, so any member of etcd may answer.
	answer, err := l.client.Get(ctx, l.key+"/", append(clientv3.WithFirstCreate(), clientv3.WithSerializable())...)
	if err != nil || len(answer.Kvs) == 0 {
		return "", err
	}
	return string(answer.Kvs[0].Value), nil
}

func (l *lease) Close() error { return nil }
