package allocator

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
)

// generous answers every message with that many grants.
type generous int

func (n generous) Apply(*allocatorpb.ToAllocator) []*allocatorpb.Grant {
	grants := make([]*allocatorpb.Grant, n)
	for i := range grants {
		grants[i] = &allocatorpb.Grant{Id: uint64(i + 1)}
	}
	return grants
}

// patient serves as server does, but lets the process live when a conversation fails.
type patient struct {
	allocatorpb.UnimplementedAllocatorServer
	newPolicy func([]byte) (Policy, error)
}

func (p patient) Allocate(st stream) error { return serve(st, p.newPolicy) }

// dial opens a conversation with s.
func dial(t *testing.T, s allocatorpb.AllocatorServer) func() grpc.BidiStreamingClient[allocatorpb.ToAllocator, allocatorpb.FromAllocator] {
	l := bufconn.Listen(1 << 20)
	srv := grpc.NewServer()
	allocatorpb.RegisterAllocatorServer(srv, s)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:///plugin",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		srv.Stop()
		<-served
	})
	return func() grpc.BidiStreamingClient[allocatorpb.ToAllocator, allocatorpb.FromAllocator] {
		st, err := allocatorpb.NewAllocatorClient(conn).Allocate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
}

func snapshot(config string) *allocatorpb.ToAllocator {
	return &allocatorpb.ToAllocator{Epoch: 7, Revision: 3, Body: &allocatorpb.ToAllocator_Snapshot{
		Snapshot: &allocatorpb.Snapshot{ConfigJson: []byte(config)},
	}}
}

// Many grants come in messages of bounded size, each with the epoch and revision that
// it was computed from.
func TestGrantsAreAnsweredInParts(t *testing.T) {
	open := dial(t, &server{newPolicy: func([]byte) (Policy, error) { return generous(2*grantsPerMessage + 1), nil }})
	st := open()
	if err := st.Send(snapshot("{}")); err != nil {
		t.Fatal(err)
	}
	var next uint64 = 1
	for _, want := range []int{grantsPerMessage, grantsPerMessage, 1} {
		m, err := st.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Grants) != want || m.Grants[0].Id != next || m.Epoch != 7 || m.Revision != 3 {
			t.Fatalf("%d grants from %d in epoch %d, revision %d; want %d from %d in 7, 3",
				len(m.Grants), m.Grants[0].Id, m.Epoch, m.Revision, want, next)
		}
		next += uint64(want)
	}

	t.Log("a second conversation is refused while the first lasts")
	if _, err := open().Recv(); status.Code(err) != codes.FailedPrecondition {
		t.Fatalf("a second conversation ended with %v, want FailedPrecondition", err)
	}
}

func TestConversationsThatFail(t *testing.T) {
	for _, test := range []struct {
		name  string
		first *allocatorpb.ToAllocator
		code  codes.Code
		says  string
	}{
		{"deltas first", &allocatorpb.ToAllocator{}, codes.FailedPrecondition, "is a snapshot"},
		{"a configuration that is wrong", snapshot(`{"colour":"red"}`), codes.InvalidArgument, `configuration: what is {"colour":"red"}?`},
	} {
		t.Run(test.name, func(t *testing.T) {
			st := dial(t, patient{newPolicy: func(config []byte) (Policy, error) {
				return nil, errors.New("what is " + string(config) + "?")
			}})()
			if err := st.Send(test.first); err != nil {
				t.Fatal(err)
			}
			_, err := st.Recv()
			if status.Code(err) != test.code || !strings.Contains(status.Convert(err).Message(), test.says) {
				t.Fatalf("ended with %v, want %s: %s", err, test.code, test.says)
			}
		})
	}
}
