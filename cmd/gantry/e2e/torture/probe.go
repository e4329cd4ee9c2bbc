package torture

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	probeEvery  = 50 * time.Millisecond
	probeWithin = 10 * time.Second // a loaded machine is no failure
	lookEvery   = 250 * time.Millisecond
	instance    = "hello-web"
)

// Probe sends requests to every instance of the demo, each over a connection of its own. Its methods are safe for
// concurrent use.
type Probe struct {
	host   Host
	client http.Client

	mu       sync.Mutex
	excused  map[string]bool // by Key: it was ended on purpose
	requests int
	failures []string
}

// NewProbe returns a Probe that waits for Run.
func NewProbe(h Host) *Probe {
	return &Probe{host: h, excused: map[string]bool{}, client: http.Client{Timeout: probeWithin, Transport: &http.Transport{DisableKeepAlives: true}}}
}

// Run looks for instances and sends requests until ctx ends.
func (p *Probe) Run(ctx context.Context) {
	var wait sync.WaitGroup
	defer wait.Wait()
	known := map[string]bool{}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		instances, err := p.host.Instances()
		if err != nil {
			p.fail("look for instances: %v", err)
		}
		for _, i := range instances {
			if !known[i.Key()] {
				known[i.Key()] = true
				wait.Go(func() { p.knock(ctx, i) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// Instances returns the processes of the demo.
func (h Host) Instances() ([]Process, error) {
	all, err := h.Processes()
	var instances []Process
	for _, p := range all {
		if p.Container != "" && len(p.Args) > 0 && filepath.Base(p.Args[0]) == instance {
			instances = append(instances, p)
		}
	}
	return instances, err
}

// Excuse says that an instance is about to be ended on purpose.
func (p *Probe) Excuse(i Process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.excused[i.Key()] = true
}

// Result returns how many requests there were, and what went wrong.
func (p *Probe) Result() (requests int, failures []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests, append([]string(nil), p.failures...)
}

func (p *Probe) fail(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures = append(p.failures, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// knock sends requests to an instance until it has ended. It counts from the first that was answered; failures count while
// it lives and nobody has ended it.
func (p *Probe) knock(ctx context.Context, i Process) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	up := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := p.request(ctx, i)
		now, gone := p.host.Process(i.PID)
		if gone != nil || now.Key() != i.Key() || now.State == 'Z' || ctx.Err() != nil {
			return
		}
		p.mu.Lock()
		excused := p.excused[i.Key()]
		if up || err == nil {
			p.requests++
		}
		p.mu.Unlock()
		if err != nil && up && !excused {
			p.fail("instance %d: %v", i.PID, err)
		}
		up = up || err == nil
	}
}

func (p *Probe) request(ctx context.Context, i Process) error {
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", i.PID))
	if err != nil {
		return err
	}
	port := ""
	for variable := range strings.SplitSeq(string(environment), "\x00") {
		if value, found := strings.CutPrefix(variable, "PORT0="); found {
			port = value
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort("127.0.0.1", port)+"/health", nil)
	if err != nil {
		return err
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	return nil
}
