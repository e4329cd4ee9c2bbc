// Command hello-web is a small web application to run under a service scheduler: it greets
// with the instance that answered, tells its health and leaves politely.
//
//	PORT=8000 hello-web
//
// It listens on $PORT0, $PORT or 8000 of the host that the scheduler names in $HOST (or of
// $BIND; without either of loopback), serves / and /health, and on SIGTERM finishes the
// requests it has before it exits.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// drain is how long requests may take that are under way when the instance is told to end.
const drain = 5 * time.Second

//go:embed page.html
var pageText string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "hello-web:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, getenv func(string) string) error {
	listener, err := listen(getenv)
	if err != nil {
		return err
	}
	fmt.Printf("%s listens on %s\n", instance(getenv), listener.Addr())
	srv := &http.Server{Handler: newSite(getenv, time.Now()), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	fmt.Println("told to end; finishing what is under way")
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

const loopback = "127.0.0.1"

// listen opens the instance's port. A host name that can't be resolved here, inside a
// container perhaps, means loopback.
func listen(getenv func(string) string) (net.Listener, error) {
	host, port := address(getenv)
	listener, err := net.Listen("tcp", net.JoinHostPort(host, port))
	var unknown *net.DNSError
	if errors.As(err, &unknown) {
		return net.Listen("tcp", net.JoinHostPort(loopback, port))
	}
	return listener, err
}

// address is where to listen, as the scheduler says.
func address(getenv func(string) string) (host, port string) {
	first := func(names []string, absent string) string {
		for _, name := range names {
			if value := getenv(name); value != "" {
				return value
			}
		}
		return absent
	}
	return first([]string{"BIND", "HOST"}, loopback), first([]string{"PORT0", "PORT"}, "8000")
}

func instance(getenv func(string) string) string {
	if id := getenv("MESOS_TASK_ID"); id != "" {
		return id
	}
	return "hello-web"
}

// site answers the two pages.
type site struct {
	page    *template.Template
	facts   facts
	started time.Time
	served  atomic.Int64
}

// facts do not change while the instance lives.
type facts struct {
	Instance string `json:"instance"`
	App      string `json:"app,omitempty"`
	Version  string `json:"version,omitempty"`
	Hostname string `json:"hostname"`
	Port     string `json:"port,omitempty"`
	CPUs     string `json:"cpus,omitempty"`
	Mem      string `json:"mem,omitempty"`
	Greeting string `json:"greeting"`
}

func newSite(getenv func(string) string, started time.Time) http.Handler {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "unknown"
	}
	s := &site{
		page:    template.Must(template.New("page").Parse(pageText)),
		started: started,
		facts: facts{
			Instance: instance(getenv), App: getenv("MARATHON_APP_ID"), Version: getenv("MARATHON_APP_VERSION"),
			Hostname: hostname, Port: getenv("PORT0"), Greeting: getenv("GREETING"),
			CPUs: getenv("MARATHON_APP_RESOURCE_CPUS"), Mem: getenv("MARATHON_APP_RESOURCE_MEM"),
		},
	}
	if s.facts.Greeting == "" {
		s.facts.Greeting = "Hello from Gantry"
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.hello)
	mux.HandleFunc("GET /health", s.health)
	return mux
}

// view is what a page shows.
type view struct {
	facts
	Uptime string `json:"uptime"`
	Served int64  `json:"served"`
}

// hello answers people with a page and programs with JSON.
func (s *site) hello(w http.ResponseWriter, r *http.Request) {
	v := view{facts: s.facts, Uptime: time.Since(s.started).Round(time.Second).String(), Served: s.served.Add(1)}
	w.Header().Set("Cache-Control", "no-store")
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	_ = s.page.Execute(w, v)
}

func (s *site) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, "{\"status\":\"ok\",\"instance\":%q}\n", s.facts.Instance)
}
