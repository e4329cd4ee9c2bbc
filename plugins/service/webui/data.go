package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	agentpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/agent"
)

const (
	answerWithin = 10 * time.Second // an agent or a plugin, when the page asks for its data
	maxReadBytes = 64 << 10         // of a file at a time
)

// data is what the page shows and the master does not have. Whom it asks is never said by the
// page: agents are those that the master knows, plugins those that the settings name.
type data struct {
	cluster *cluster
	places  map[string]question
}

// question is what a request is about, and how it is answered.
type question func(context.Context, *http.Request) (reply, error)

func newData(m master, s settings) *data {
	c := newCluster(m)
	u := &usage{cluster: c}
	d := &data{cluster: c}
	d.places = map[string]question{
		"data/usage":        func(ctx context.Context, _ *http.Request) (reply, error) { return asJSON(u.measure(ctx)) },
		"data/task":         d.task,
		"data/files":        d.list,
		"data/file":         d.read,
		"data/applications": d.rest(s.Applications, "/v2/apps"),
		"data/jobs":         d.rest(s.Jobs, "/v1/scheduler/jobs"),
	}
	return d
}

// answer finds who answers a place below the page's own; nil if nobody does.
func (d *data) answer(place string) http.HandlerFunc {
	answer := d.places[place]
	if answer == nil {
		return nil
	}
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
		defer cancel()
		a, err := answer(ctx, r)
		if err != nil {
			refuse(w, err)
			return
		}
		w.Header().Set("Content-Type", a.mediaType)
		if a.size >= 0 {
			w.Header().Set("Gantry-File-Size", strconv.FormatInt(a.size, 10))
			w.Header().Set("Gantry-File-Offset", strconv.FormatInt(a.offset, 10))
		}
		_, _ = w.Write(a.text) // a browser that is gone needs no answer
	}
}

// reply is an answer that is no refusal.
type reply struct {
	mediaType string
	text      []byte
	size      int64 // of the whole file; -1: it is none
	offset    int64 // of text in it
}

func asJSON(v any, err error) (reply, error) {
	if err != nil {
		return reply{}, err
	}
	text, err := json.Marshal(v)
	return reply{"application/json", text, -1, 0}, err
}

// refusal is an error with the status that says so.
type refusal struct {
	status int
	error
}

func refused(status int, format string, args ...any) error {
	return &refusal{status, fmt.Errorf(format, args...)}
}

// refuse answers with a sentence. What is nobody's mistake here is that of who was asked.
func refuse(w http.ResponseWriter, err error) {
	status := http.StatusBadGateway
	if r, ok := errors.AsType[*refusal](err); ok {
		status = r.status
	}
	if errors.Is(err, context.DeadlineExceeded) {
		status = http.StatusGatewayTimeout
	}
	text := strings.TrimSuffix(err.Error(), ".")
	http.Error(w, strings.ToUpper(text[:1])+text[1:]+".", status)
}

// task answers with one task as the master knows it: no event tells a status that came
// after the state which it is about.
func (d *data) task(ctx context.Context, r *http.Request) (reply, error) {
	query := r.URL.Query()
	t, err := d.cluster.task(ctx, query.Get("framework"), query.Get("task"))
	if err != nil {
		return reply{}, err
	}
	return reply{"application/json", t.AppendJSON(nil), -1, 0}, nil
}

// sandbox is the place in a sandbox that a request is about, as an agent names it.
func (d *data) sandbox(ctx context.Context, r *http.Request) (address, path string, err error) {
	query := r.URL.Query()
	agent, framework, executor := query.Get("agent"), query.Get("framework"), query.Get("executor")
	for _, id := range []string{agent, framework, executor} {
		if id == "" || strings.Contains(id, "/") {
			return "", "", refused(http.StatusBadRequest, "name the sandbox: ?agent=ID&framework=ID&executor=ID&path=PATH")
		}
	}
	address, err = d.cluster.agent(ctx, agent)
	path = "/slaves/" + agent + "/frameworks/" + framework + "/executors/" + executor + "/runs/latest"
	if rest := strings.Trim(query.Get("path"), "/"); rest != "" {
		path += "/" + rest // the agent refuses one that leads out of the sandbox
	}
	return address, path, err
}

// entry is a file of a sandbox.
type entry struct {
	Name   string  `json:"name"`
	Size   uint64  `json:"size"`
	Mode   uint32  `json:"mode"`  // as in struct stat
	Mtime  float64 `json:"mtime"` // in seconds
	Folder bool    `json:"folder"`
}

// list answers with the entries of a folder.
func (d *data) list(ctx context.Context, r *http.Request) (reply, error) {
	address, path, err := d.sandbox(ctx, r)
	if err != nil {
		return reply{}, err
	}
	answer, err := d.cluster.askAgent(ctx, address, &agentpb.Call{
		Type: agentpb.Call_LIST_FILES.Enum(), ListFiles: &agentpb.Call_ListFiles{Path: &path},
	})
	if err != nil {
		return reply{}, err
	}
	entries := []entry{}
	for _, f := range answer.GetListFiles().GetFileInfos() {
		entries = append(entries, entry{
			Name: f.GetPath()[strings.LastIndexByte(f.GetPath(), '/')+1:], Size: f.GetSize(), Mode: f.GetMode(),
			Mtime: float64(f.GetMtime().GetNanoseconds()) / 1e9, Folder: f.GetMode()&0o170000 == 0o040000,
		})
	}
	return asJSON(entries, nil)
}

// read answers with bytes of a file from ?offset= on, and with its size. A negative offset
// counts from the end.
func (d *data) read(ctx context.Context, r *http.Request) (reply, error) {
	address, path, err := d.sandbox(ctx, r)
	if err != nil {
		return reply{}, err
	}
	offset, err := strconv.ParseInt(r.URL.Query().Get("offset"), 10, 64)
	if err != nil {
		return reply{}, refused(http.StatusBadRequest, "say where to read from: ?offset=BYTES")
	}
	part := func(offset, length uint64) (*agentpb.Response_ReadFile, error) {
		answer, err := d.cluster.askAgent(ctx, address, &agentpb.Call{
			Type: agentpb.Call_READ_FILE.Enum(), ReadFile: &agentpb.Call_ReadFile{Path: &path, Offset: &offset, Length: &length},
		})
		return answer.GetReadFile(), err
	}
	if offset < 0 {
		head, err := part(0, 0)
		if err != nil {
			return reply{}, err
		}
		offset = max(0, int64(head.GetSize())+offset)
	}
	f, err := part(uint64(offset), maxReadBytes)
	if err != nil {
		return reply{}, err
	}
	return reply{"application/octet-stream", f.GetData(), int64(f.GetSize()), offset}, nil
}

// rest passes on what a plugin's REST API has at a path.
func (d *data) rest(plugin, path string) question {
	return func(ctx context.Context, _ *http.Request) (reply, error) {
		address, err := d.cluster.plugin(ctx, plugin)
		if err != nil {
			return reply{}, err
		}
		text, err := d.cluster.get(ctx, "http://"+address+path)
		if err != nil {
			return reply{}, fmt.Errorf("the plugin %s does not answer: %w", plugin, err)
		}
		return reply{"application/json", text, -1, 0}, nil
	}
}
