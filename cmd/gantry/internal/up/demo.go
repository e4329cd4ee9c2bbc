package up

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
)

const (
	demoName      = "hello-web"
	demoInstances = 2
	demoTimeout   = 2 * time.Minute
	demoPatience  = 15 * time.Second // with resources that are missing
	askEvery      = 200 * time.Millisecond
	maxQueueBytes = 1 << 20
)

// demo deploys the demo application, or finds it from an earlier start, and waits until its instances answer.
type demo struct {
	client   *client.Client
	marathon string        // HOST:PORT
	binary   string        // as `make build` leaves it
	artifact string        // where the agents may fetch it
	patience time.Duration // with resources that are missing: Marathon goes on, but nobody needs to wait for it
}

// run returns the addresses at which the instances answer.
func (d demo) run(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	if err := copyFile(d.binary, d.artifact); err != nil {
		return nil, err
	}
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for begun := time.Now(); ; {
		urls, err := d.look(ctx)
		if err == nil {
			return urls, nil
		}
		if time.Since(begun) > d.patience {
			if why := d.missing(ctx); why != "" {
				return nil, fmt.Errorf("%w: %s; the others come up when there is room", err, why)
			}
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-tick.C:
		}
	}
}

// look creates the application if it is not there, and says where it answers or why it does not yet.
func (d demo) look(ctx context.Context) ([]string, error) {
	app, err := d.client.App(ctx, demoName)
	if client.IsNotFound(err) {
		return nil, errors.Join(errors.New("it was just created"), d.create(ctx))
	}
	if err != nil {
		return nil, err
	}
	var urls []string
	for _, task := range app.Tasks {
		if len(task.Ports) == 0 {
			continue
		}
		url := "http://" + net.JoinHostPort(task.Host, strconv.Itoa(task.Ports[0])) + "/"
		if answers(ctx, url) {
			urls = append(urls, url)
		}
	}
	if len(urls) >= app.Instances {
		return urls, nil
	}
	why := ""
	if f := app.LastFailure; f != nil {
		why = fmt.Sprintf("; the last failure was %s: %s", f.State, f.Message)
	}
	return nil, fmt.Errorf("%d of %d instances answer%s", len(urls), app.Instances, why)
}

// missing is Marathon's sentence about the resources that the last offers had too little of; empty if they had enough, or
// nobody knows.
func (d demo) missing(ctx context.Context) string {
	var answer struct {
		Queue []struct {
			App     client.App `json:"app"`
			Why     string     `json:"why"`
			Summary struct {
				Last []struct {
					Reason   string `json:"reason"`
					Declined int    `json:"declined"`
				} `json:"rejectSummaryLastOffers"`
			} `json:"processedOffersSummary"`
		} `json:"queue"`
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.marathon+"/v2/queue", nil)
	if err != nil {
		return ""
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	if json.NewDecoder(io.LimitReader(resp.Body, maxQueueBytes)).Decode(&answer) != nil {
		return ""
	}
	for _, waiting := range answer.Queue {
		for _, refused := range waiting.Summary.Last {
			if waiting.App.ID == "/"+demoName && refused.Declined > 0 && strings.HasPrefix(refused.Reason, "Insufficient") {
				return waiting.Why
			}
		}
	}
	return ""
}

func (d demo) create(ctx context.Context) error {
	return d.client.CreateApp(ctx, client.NewApp{
		ID:        demoName,
		Cmd:       "./" + filepath.Base(d.artifact),
		Instances: demoInstances,
		CPUs:      0.1,
		Mem:       32,
		Fetch:     []client.Fetch{{URI: "file://" + d.artifact, Executable: true}},
		Ports:     []client.Port{{Port: 0, Name: "http"}},
	})
}

// answers reports whether a GET of url is answered with 200.
func answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// copyFile makes an executable copy that readers see whole or not at all.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // gone already when all went well
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Chmod(0o755), out.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return os.Rename(out.Name(), to)
}
