package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// App is what Marathon says of one application, as far as the command line shows it.
type App struct {
	ID           string      `json:"id"`
	Cmd          string      `json:"cmd,omitempty"`
	Instances    int         `json:"instances"`
	CPUs         float64     `json:"cpus"`
	Mem          float64     `json:"mem"` // MiB
	TasksRunning int         `json:"tasksRunning"`
	TasksStaged  int         `json:"tasksStaged"`
	Version      string      `json:"version,omitempty"`
	Tasks        []AppTask   `json:"tasks,omitempty"`
	LastFailure  *AppFailure `json:"lastTaskFailure,omitempty"`
}

// AppTask is one instance of an application.
type AppTask struct {
	ID        string `json:"id"`
	Host      string `json:"host"`
	Ports     []int  `json:"ports"` // on the host
	State     string `json:"state"`
	AgentID   string `json:"slaveId"`
	StartedAt string `json:"startedAt,omitempty"`
}

// AppFailure is the last end of an instance that nobody had asked for.
type AppFailure struct {
	TaskID    string `json:"taskId"`
	State     string `json:"state"`
	Message   string `json:"message"`
	Timestamp string `json:"timestamp"`
}

// Fetch is a file that an instance gets into its sandbox before it starts.
type Fetch struct {
	URI        string `json:"uri"`
	Executable bool   `json:"executable"`
}

// Port asks for one port of the host; 0 is any.
type Port struct {
	Port int    `json:"port"`
	Name string `json:"name,omitempty"`
}

// NewApp is a definition to create.
type NewApp struct {
	ID        string  `json:"id"`
	Cmd       string  `json:"cmd"`
	Instances int     `json:"instances"`
	CPUs      float64 `json:"cpus"`
	Mem       float64 `json:"mem"` // MiB
	Fetch     []Fetch `json:"fetch,omitempty"`
	Ports     []Port  `json:"portDefinitions,omitempty"`
}

// Apps returns every application, without instances.
func (c *Client) Apps(ctx context.Context) ([]App, error) {
	var answer struct {
		Apps []App `json:"apps"`
	}
	err := c.rest(ctx, c.marathonRequest(http.MethodGet, ""), nil, &answer)
	return answer.Apps, err
}

// App returns one application with its instances.
func (c *Client) App(ctx context.Context, id string) (App, error) {
	var answer struct {
		App App `json:"app"`
	}
	err := c.rest(ctx, c.marathonRequest(http.MethodGet, id), nil, &answer)
	return answer.App, err
}

// CreateApp adds an application; its instances start later.
func (c *Client) CreateApp(ctx context.Context, app NewApp) error {
	if err := c.rest(ctx, c.marathonRequest(http.MethodPost, ""), app, nil); err != nil {
		return fmt.Errorf("create app %s: %w", app.ID, err)
	}
	return nil
}

// ScaleApp sets how many instances an application is to have; they start or end later. It must exist, which a PUT
// does not ask for.
func (c *Client) ScaleApp(ctx context.Context, id string, instances int) error {
	return c.rest(ctx, c.marathonRequest(http.MethodPatch, id), map[string]int{"instances": instances}, nil)
}

// RemoveApp removes an application; its instances end later.
func (c *Client) RemoveApp(ctx context.Context, id string) error {
	return c.rest(ctx, c.marathonRequest(http.MethodDelete, id), nil, nil)
}

// marathonRequest is for /v2/apps, or for one application below it.
func (c *Client) marathonRequest(method, id string) request {
	path := "/v2/apps"
	for part := range strings.SplitSeq(strings.Trim(id, "/"), "/") {
		if part != "" {
			path += "/" + url.PathEscape(part)
		}
	}
	return request{method: method, address: c.marathon, path: path}
}
