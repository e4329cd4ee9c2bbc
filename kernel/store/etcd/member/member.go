// Package member is an etcd member in this process, and the store in its cluster: the process
// whose member leads the others is the one that is elected.
//
//	m, err := member.Start(ctx, member.Config{Dir: dir, Name: "a", Peers: map[string]string{
//		"a": "http://127.0.0.1:5048", "b": "http://127.0.0.1:5038", "c": "http://127.0.0.1:5028",
//	}})
//	s, err := m.Lead(ctx, announcement) // see package etcd
//
// Members speak with each other in the clear and unauthenticated, so on loopback only. Nobody
// else is served: the store's client is in this process and needs no socket.
package member

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	"github.com/gantry-project/gantry/kernel/store/etcd"
)

const (
	prefix     = "/gantry/"
	lookEvery  = 50 * time.Millisecond
	askWithin  = 3 * time.Second
	quotaBytes = 2 << 30 // of the data; etcd refuses writes beyond it
	keepHours  = "1h"    // of history, which nobody reads
)

// Config says which member of which cluster this is.
type Config struct {
	// Dir is the member's own; it is made with mode 0700.
	Dir string
	// Name is this member's, one of Peers.
	Name string
	// Peers are the URLs at which the members hear each other, by name: http, a loopback
	// address and a port. They can't be changed once the cluster has begun.
	Peers map[string]string
	Log   *slog.Logger
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	if _, ok := c.Peers[c.Name]; !ok {
		return fmt.Errorf("the member %q is none of the peers %q: name it as it is named there", c.Name, slices.Sorted(maps.Keys(c.Peers)))
	}
	for name, text := range c.Peers {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" || u.Port() == "" || u.Path != "" {
			return fmt.Errorf("peer %s=%s: want a URL such as http://127.0.0.1:5048", name, text)
		}
		if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
			return fmt.Errorf("peer %s=%s: members do not authenticate each other, so only a loopback address is accepted, such as 127.0.0.1", name, text)
		}
	}
	return nil
}

// Start starts the member and returns the cluster. It does not wait for the other members:
// with too few of them nobody is elected.
func Start(cfg Config) (*etcd.Cluster, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	ending := new(atomic.Bool)
	running, err := embed.StartEtcd(cfg.embed(logger(cfg.Log, ending)))
	if err != nil {
		return nil, fmt.Errorf("start the store's member %s in %s: %w", cfg.Name, cfg.Dir, err)
	}
	client := v3client.New(running.Server)
	return etcd.New(client, prefix, &member{running, running.Server, client, ending}), nil
}

func (c Config) embed(log *zap.Logger) *embed.Config {
	var peers []string
	for _, name := range slices.Sorted(maps.Keys(c.Peers)) {
		peers = append(peers, name+"="+c.Peers[name])
	}
	here, _ := url.Parse(c.Peers[c.Name]) // Validate has parsed it
	e := embed.NewConfig()
	e.Name, e.Dir = c.Name, c.Dir
	e.InitialCluster, e.InitialClusterToken = strings.Join(peers, ","), "gantry"
	e.ListenPeerUrls, e.AdvertisePeerUrls = []url.URL{*here}, []url.URL{*here}
	e.ListenClientUrls, e.AdvertiseClientUrls = nil, nil
	e.AutoCompactionMode, e.AutoCompactionRetention = embed.CompactorModePeriodic, keepHours
	e.QuotaBackendBytes = quotaBytes
	e.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	return e
}

// member is the ballot: raft elects.
type member struct {
	etcd   *embed.Etcd
	server *etcdserver.EtcdServer
	client *clientv3.Client
	ending *atomic.Bool
}

func (m *member) leads() bool { return m.server.Lead() == uint64(m.server.MemberID()) }

// Elect implements etcd.Ballot. A process that was stopped for long sees itself lead for a
// moment when it goes on; it does no harm by then.
func (m *member) Elect(ctx context.Context, announcement string) (context.Context, func(), error) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for announced := false; !announced; {
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-m.server.StopNotify():
			return nil, nil, m.ended()
		case <-tick.C:
		}
		announced = m.leads() && m.announce(ctx, announcement) == nil
	}
	tenure, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go m.watch(tenure, cancel)
	return tenure, cancel, nil
}

func (m *member) announce(ctx context.Context, announcement string) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	_, err := m.client.Put(ctx, m.key(uint64(m.server.MemberID())), announcement)
	return err
}

func (m *member) key(id uint64) string { return fmt.Sprintf("%sleader/%x", prefix, id) }

// watch ends a tenure with the lead.
func (m *member) watch(tenure context.Context, end func()) {
	defer end()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for m.leads() {
		select {
		case <-tenure.Done():
			return
		case <-m.server.StopNotify():
			return
		case <-tick.C:
		}
	}
}

func (m *member) ended() error {
	select {
	case err := <-m.etcd.Err():
		return fmt.Errorf("the store's member has ended: %w", err)
	default:
		return errors.New("the store's member has ended")
	}
}

// Leader implements etcd.Ballot: what the member that leads has announced at some time.
func (m *member) Leader(ctx context.Context) (string, error) {
	id := m.server.Lead()
	if id == 0 {
		return "", nil
	}
	answer, err := m.client.Get(ctx, m.key(id), clientv3.WithSerializable())
	if err != nil || len(answer.Kvs) == 0 {
		return "", err
	}
	return string(answer.Kvs[0].Value), nil
}

// Close implements etcd.Ballot; a member that leads hands the lead over first, if there is one to take it.
func (m *member) Close() error {
	m.ending.Store(true)
	m.etcd.Close()
	return nil
}
