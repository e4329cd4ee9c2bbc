package up

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
)

// welcome deploys the demo and tells where to look.
func (u *cluster) welcome(ctx context.Context) error {
	var urls []string
	var problem error
	if !u.NoDemo {
		urls, problem = u.runDemo(ctx)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if problem != nil {
		u.say("the demo application is not up: %v", problem)
	}
	if u.JSON {
		return json.NewEncoder(u.out).Encode(struct {
			daemon.Cluster
			WorkDir string   `json:"work_dir"`
			Demo    []string `json:"demo,omitempty"`
		}{u.known, u.WorkDir, urls})
	}
	u.tour(urls)
	fmt.Fprintln(u.out, "gantry: ready")
	return nil
}

// runDemo looks after the cluster while the demo comes up beside it.
func (u *cluster) runDemo(ctx context.Context) ([]string, error) {
	late, cancel := context.WithTimeout(ctx, marathonTimeout)
	defer cancel()
	err := u.wait(late, func() bool { return u.known.Marathon != "" })
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("no plugin named marathon listens (%s)", u.Plugins)
	}
	if err != nil {
		return nil, err
	}
	type result struct {
		urls []string
		err  error
	}
	results := make(chan result, 1)
	d := demo{
		client:   client.Of(u.known.Masters, u.known.Marathon),
		marathon: u.known.Marathon,
		patience: demoPatience,
		binary:   filepath.Join(u.binDir(), "examples", demoName),
		artifact: u.path("artifacts", demoName),
	}
	go func() {
		urls, err := d.run(ctx)
		results <- result{urls, err}
	}()
	var r result
	err = u.wait(ctx, func() bool {
		select {
		case r = <-results:
			return true
		default:
			return false
		}
	})
	if err != nil {
		return nil, err
	}
	return r.urls, r.err
}

// tour prints where everything is, and a few things to try.
func (u *cluster) tour(urls []string) {
	w := tabwriter.NewWriter(u.out, 0, 0, 3, ' ', 0)
	if u.known.Page != "" {
		fmt.Fprintf(w, "  page\thttp://%s/\n", u.known.Page)
	}
	for i, at := range u.known.Masters {
		fmt.Fprintf(w, "  %s\thttp://%s\n", u.masterName(i), at)
	}
	for i, at := range u.known.Agents {
		fmt.Fprintf(w, "  %s\thttp://%s\n", u.agentName(i), at)
	}
	if u.known.Marathon != "" {
		fmt.Fprintf(w, "  Marathon\thttp://%s/v2/apps\n", u.known.Marathon)
	}
	if u.known.Chronos != "" {
		fmt.Fprintf(w, "  Chronos\thttp://%s/v1/scheduler/jobs\n", u.known.Chronos)
	}
	if len(urls) > 0 {
		fmt.Fprintf(w, "  %s\t%s\n", demoName, strings.Join(urls, "  "))
	}
	fmt.Fprintf(w, "  files\t%s\n", u.WorkDir)
	w.Flush()
	gantry := u.Executable
	if u.WorkDir != "/var/lib/gantry" {
		gantry += " --work-dir " + u.WorkDir
	}
	fmt.Fprintf(u.out, "\nTry:\n  %[1]s status\n  %[1]s run -- sh -c 'echo hi; exit 3'\n", gantry)
	if len(urls) > 0 {
		fmt.Fprintf(u.out, "  %s app scale %s 5\n  curl %s\n", gantry, demoName, urls[0])
	}
	fmt.Fprintln(u.out)
}
