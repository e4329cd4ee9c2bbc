package api

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strconv"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	agentpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/agent"
)

// AgentState is what the API asks of the agent.
type AgentState interface {
	// AgentID is the id that the master gave, "" before the first registration.
	AgentID() string
	// Recovered tells whether the agent has read its checkpoint.
	Recovered() bool
}

// AgentConfig is what NewAgent serves; everything is required.
type AgentConfig struct {
	State     AgentState
	Executors Executors
	Monitor   Monitor
	Tracer    Tracer
	Version   *mesos.VersionInfo
	// Sandboxes is the folder WORK/slaves. The caller closes it when the server has ended.
	Sandboxes *os.Root
	// Plugins returns a value that encoding/json can write; nil where there are none.
	Plugins func() any
}

type agent struct {
	AgentConfig
	files  files
	intake *intake
}

// NewAgent returns the HTTP surface of an agent, to be wrapped by Secure.
func NewAgent(cfg AgentConfig) http.Handler {
	a := &agent{cfg, files{root: cfg.Sandboxes, agent: cfg.State.AgentID}, newIntake()}
	return routes("/slave(1)", agentAbsences, []route{
		{"/api/v1", "", a.operator},
		{"/api/v1/executor", "", a.executor},
		{"/health", http.MethodGet, healthy},
		{"/monitor/statistics", http.MethodGet, a.statistics},
		{"/containers", http.MethodGet, a.listContainers},
	}, []route{
		{"/version", http.MethodGet, version(cfg.Version)},
		{"/gantry/v1/trace", http.MethodGet, trace(cfg.Tracer)},
		{"/gantry/v1/plugins", http.MethodGet, a.plugins},
		{"/files/read", http.MethodGet, a.read},
		{"/files/browse", http.MethodGet, a.browse},
	}, nil)
}

// plugins is GET /gantry/v1/plugins: those of the agent.
func (a *agent) plugins(w http.ResponseWriter, _ *http.Request) {
	if a.Plugins == nil {
		answerJSON(w, []any{})
		return
	}
	answerJSON(w, a.Plugins())
}

// operator is POST /api/v1. Its order of checks is not the master's.
func (a *agent) operator(w http.ResponseWriter, r *http.Request) {
	if !a.State.Recovered() {
		answer(w, Reply{503, "Agent has not finished recovery"})
		return
	}
	if r.Method != http.MethodPost {
		wrongMethod(w, r, http.MethodPost)
		return
	}
	in, out, refused := agentCodecs(r)
	if refused != nil {
		answer(w, *refused)
		return
	}
	call := &agentpb.Call{}
	taken, refused := a.decode(r, in, call)
	if refused != nil {
		answer(w, *refused)
		return
	}
	defer taken.release()
	response, reply := a.query(r.Context(), call)
	if reply.Status != 200 {
		answer(w, reply)
		return
	}
	answerMessage(w, out, response)
}

// agentCodecs picks the codecs of call and answer, or says which header is in the way.
func agentCodecs(r *http.Request) (in, out codec, refused *Reply) {
	contentType := r.Header.Get("Content-Type")
	in, ok := contentCodec(contentType)
	switch {
	case len(r.Header.Values("Content-Type")) == 0:
		return nil, nil, &Reply{400, "Expecting 'Content-Type' to be present"}
	case contentType == recordioType:
		return nil, nil, &Reply{501, "Calls that are streams are not carried out by this version yet."}
	case !ok:
		return nil, nil, &Reply{415, "Expecting 'Content-Type' of " + jsonType + " or " + protobufType + " or " + recordioType}
	case len(r.Header.Values("Message-Content-Type")) > 0:
		return nil, nil, &Reply{415, "Expecting 'Message-Content-Type' to be not set for non-streaming requests"}
	}
	out, ok = acceptCodec(r)
	switch {
	case !ok && accepts(r.Header, recordioType):
		return nil, nil, &Reply{501, "Answers that are streams are not given by this version yet."}
	case !ok:
		return nil, nil, &Reply{406, "Expecting 'Accept' to allow " + jsonType + " or " + protobufType + " or " + recordioType}
	case len(r.Header.Values("Message-Accept")) > 0:
		return nil, nil, &Reply{406, "Expecting 'Message-Accept' to be not set for non-streaming responses"}
	}
	return in, out, nil
}

func (a *agent) decode(r *http.Request, in codec, call *agentpb.Call) (*room, *Reply) {
	taken, err := a.intake.decode(r, in, call)
	var refused refusal
	switch {
	case errors.As(err, &refused):
		return nil, &refused.Reply
	case errors.Is(err, errProtobuf):
		return nil, &Reply{400, "Failed to parse body into a protobuf object"}
	case errors.Is(err, errSyntax):
		return nil, &Reply{400, "Failed to parse body into JSON: " + err.Error()}
	case err != nil:
		return nil, &Reply{400, err.Error()}
	}
	if missing := missingAgentPart(call); missing != "" {
		taken.release()
		return nil, &Reply{400, "Failed to validate agent::Call: " + expecting(missing)}
	}
	return taken, nil
}

// missingAgentPart names what a call lacks, or "".
func missingAgentPart(call *agentpb.Call) string {
	switch {
	case call.Type == nil:
		return "type"
	case call.GetType() == agentpb.Call_LIST_FILES && call.ListFiles == nil:
		return "list_files"
	case call.GetType() == agentpb.Call_READ_FILE && call.ReadFile == nil:
		return "read_file"
	}
	return ""
}

func (a *agent) query(ctx context.Context, call *agentpb.Call) (*agentpb.Response, Reply) {
	ok := Reply{Status: 200}
	switch call.GetType() {
	case agentpb.Call_UNKNOWN:
		return nil, Reply{501, "501 Not Implemented."}
	case agentpb.Call_GET_HEALTH:
		yes := true
		return &agentpb.Response{
			Type:      agentpb.Response_GET_HEALTH.Enum(),
			GetHealth: &agentpb.Response_GetHealth{Healthy: &yes},
		}, ok
	case agentpb.Call_GET_VERSION:
		return &agentpb.Response{
			Type:       agentpb.Response_GET_VERSION.Enum(),
			GetVersion: &agentpb.Response_GetVersion{VersionInfo: a.Version},
		}, ok
	case agentpb.Call_LIST_FILES:
		list, err := a.files.list(call.GetListFiles().GetPath())
		if err != nil {
			return nil, fileReply(err)
		}
		return &agentpb.Response{
			Type:      agentpb.Response_LIST_FILES.Enum(),
			ListFiles: &agentpb.Response_ListFiles{FileInfos: list},
		}, ok
	case agentpb.Call_READ_FILE:
		return a.readFile(call.GetReadFile())
	case agentpb.Call_GET_CONTAINERS:
		return a.getContainers(ctx)
	default:
		return nil, notYet(call.GetType())
	}
}

func (a *agent) readFile(c *agentpb.Call_ReadFile) (*agentpb.Response, Reply) {
	length := c.GetLength()
	if c.Length == nil || length > maxRead {
		length = maxRead
	}
	part, err := a.files.read(c.GetPath(), c.GetOffset(), int(length))
	if err != nil {
		return nil, fileReply(err)
	}
	size := uint64(part.size)
	return &agentpb.Response{
		Type:     agentpb.Response_READ_FILE.Enum(),
		ReadFile: &agentpb.Response_ReadFile{Size: &size, Data: part.data},
	}, Reply{Status: 200}
}

// fileReply gives an error of files its status.
func fileReply(err error) Reply {
	switch {
	case errors.Is(err, errBadPath):
		return Reply{400, err.Error() + ".\n"}
	case errors.Is(err, os.ErrNotExist):
		return Reply{404, err.Error() + ".\n"}
	default:
		return Reply{500, err.Error() + ".\n"}
	}
}

// read is GET /files/read. Offset -1, or none, asks for the size of the file; length -1,
// or none, for as much as one answer holds.
func (a *agent) read(w http.ResponseWriter, r *http.Request) {
	path, refused := pathParam(r)
	if refused != nil {
		answer(w, *refused)
		return
	}
	offset, refused := numberParam(r, "offset")
	if refused != nil {
		answer(w, *refused)
		return
	}
	length, refused := numberParam(r, "length")
	if refused != nil {
		answer(w, *refused)
		return
	}
	if length < 0 || length > maxRead {
		length = maxRead
	}
	if offset < 0 {
		length = 0
	}
	part, err := a.files.read(path, uint64(max(offset, 0)), int(length))
	if err != nil {
		answer(w, fileReply(err))
		return
	}
	if offset < 0 {
		offset = part.size
	}
	answerJSONP(w, r, struct {
		Data   string `json:"data"`
		Offset int64  `json:"offset"`
	}{string(part.data), offset})
}

// browse is GET /files/browse.
func (a *agent) browse(w http.ResponseWriter, r *http.Request) {
	path, refused := pathParam(r)
	if refused != nil {
		answer(w, *refused)
		return
	}
	list, err := a.files.list(path)
	if err != nil {
		answer(w, fileReply(err))
		return
	}
	type row struct {
		GID   string `json:"gid"`
		Mode  string `json:"mode"`
		MTime int64  `json:"mtime"` // seconds
		NLink int32  `json:"nlink"`
		Path  string `json:"path"`
		Size  uint64 `json:"size"`
		UID   string `json:"uid"`
	}
	rows := make([]row, len(list))
	for i, f := range list {
		rows[i] = row{f.GetGid(), modeString(f.GetMode()), f.GetMtime().GetNanoseconds() / 1e9, f.GetNlink(), f.GetPath(), f.GetSize(), f.GetUid()}
	}
	answerJSONP(w, r, rows)
}

func pathParam(r *http.Request) (string, *Reply) {
	path := r.URL.Query().Get("path")
	if path == "" {
		return "", &Reply{400, "Expecting 'path=value' in query.\n"}
	}
	return path, nil
}

// numberParam reads an offset or a length; -1 stands for none.
func numberParam(r *http.Request, name string) (int64, *Reply) {
	text := r.URL.Query().Get(name)
	if text == "" && !r.URL.Query().Has(name) {
		return -1, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, &Reply{400, "Failed to parse " + name + ": " + strconv.Quote(text) + " is not a number that a file can have.\n"}
	}
	if n < -1 {
		return 0, &Reply{400, "Negative " + name + " provided: " + strconv.FormatInt(n, 10) + ".\n"}
	}
	return n, nil
}
