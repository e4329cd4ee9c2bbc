package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func env(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

func TestPageShowsTheInstance(t *testing.T) {
	site := newSite(env(map[string]string{"MESOS_TASK_ID": "hello.1-7", "GREETING": "<Hi>"}), time.Now())
	w := httptest.NewRecorder()
	site.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	page := w.Body.String()
	if w.Code != http.StatusOK || !strings.Contains(page, "hello.1-7") || !strings.Contains(page, "&lt;Hi&gt;") {
		t.Errorf("the page is %d %s", w.Code, page)
	}
}

func TestProgramsGetJSON(t *testing.T) {
	site := newSite(env(map[string]string{"MESOS_TASK_ID": "hello.1-7"}), time.Now())
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Accept", "application/json")
	w := httptest.NewRecorder()
	site.ServeHTTP(w, r)
	var v view
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || v.Instance != "hello.1-7" || v.Served != 1 {
		t.Errorf("the answer is %s (%v)", w.Body, err)
	}
}

func TestAddressIsTheSchedulers(t *testing.T) {
	for want, values := range map[string]map[string]string{
		"127.0.0.1:31000": {"PORT0": "31000", "PORT": "1"},
		"agent7:9000":     {"HOST": "agent7", "PORT": "9000"},
		"127.0.0.1:8000":  {},
		"0.0.0.0:8000":    {"BIND": "0.0.0.0", "HOST": "agent7"},
	} {
		if got := net.JoinHostPort(address(env(values))); got != want {
			t.Errorf("with %v it listens on %s, not %s", values, got, want)
		}
	}
}

// TestPoliteEnd serves on a real port and ends when told to.
func TestPoliteEnd(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, env(map[string]string{"BIND": "127.0.0.1", "PORT": port})) }()
	for {
		resp, err := http.Get("http://127.0.0.1:" + port + "/health")
		if err == nil {
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if !strings.Contains(string(body), `"status":"ok"`) {
				t.Errorf("health says %s", body)
			}
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("it ended at once: %v", err)
		default:
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}
