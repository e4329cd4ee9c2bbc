package service

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	servicepb "github.com/gantry-project/gantry/sdk/proto/gantry/service/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

func TestServeSaysReadyOnceItAnswers(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "http")
	said := make(chan *servicepb.FromService, 1)
	k := &Kernel{
		start: &servicepb.Start{HttpSocket: socket},
		send: func(m *servicepb.FromService) error {
			said <- m
			return nil
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- k.Serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "served") }))
	}()
	if m := <-said; m.GetReady() == nil {
		t.Fatalf("said %v", m)
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	resp, err := client.Get("http://plugin/")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || string(body) != "served" {
		t.Errorf("%q, %v", body, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestOperate(t *testing.T) {
	master := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		call := new(masterpb.Call)
		if err != nil || r.URL.Path != "/api/v1" || proto.Unmarshal(body, call) != nil || r.Header.Get("Authorization") != "Bearer s3cret" {
			t.Errorf("%s %s %q, %v, %v", r.Method, r.URL, body, r.Header, err)
		}
		if call.GetType() != masterpb.Call_GET_AGENTS {
			http.Error(w, "not yet", http.StatusNotImplemented)
			return
		}
		text, err := proto.Marshal(&masterpb.Response{Type: masterpb.Response_GET_AGENTS.Enum(), GetAgents: &masterpb.Response_GetAgents{}})
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(text)
	}))
	defer master.Close()
	k := &Kernel{start: &servicepb.Start{MasterAddress: strings.TrimPrefix(master.URL, "http://"), MasterCredential: "s3cret"}}
	answer, err := k.Operate(t.Context(), &masterpb.Call{Type: masterpb.Call_GET_AGENTS.Enum()})
	if err != nil || answer.GetGetAgents() == nil {
		t.Errorf("%v, %v", answer, err)
	}
	_, err = k.Operate(t.Context(), &masterpb.Call{Type: masterpb.Call_GET_QUOTA.Enum()})
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Status != 501 || refused.Message != "not yet" {
		t.Errorf("%v", err)
	}
}
