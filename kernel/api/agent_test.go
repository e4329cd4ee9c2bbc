package api

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	agentpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/agent"
)

// host is an agent with one task, T of framework F, that has run twice, and with things
// beside its sandboxes that nobody may see.
type host struct {
	id        string
	recovered bool
	work      string
	root      *os.Root

	containers []Container
	busy       error // why its containers can't be listed
}

func (h *host) AgentID() string { return h.id }
func (h *host) Recovered() bool { return h.recovered }

const secret = "the secret of the host"

func newHost(t *testing.T) *host {
	t.Helper()
	work := t.TempDir()
	runs := filepath.Join(work, "slaves/S0/frameworks/F/executors/T/runs")
	for _, dir := range []string{"c1", "c2/logs", "c2/locked"} {
		if err := os.MkdirAll(filepath.Join(runs, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c2 := filepath.Join(runs, "c2")
	for name, text := range map[string]string{
		filepath.Join(work, "secret"):          secret,
		filepath.Join(work, "slaves/secret"):   secret,
		filepath.Join(runs, "c1/stdout"):       "first run",
		filepath.Join(c2, "stdout"):            "hello\n",
		filepath.Join(c2, "empty"):             "",
		filepath.Join(c2, "logs/a b%2f&<x>"):   "odd name",
		filepath.Join(c2, "large"):             strings.Repeat("0123456789abcdef", 8192),
		filepath.Join(c2, "bytes"):             "\xff\x00\xfe",
		filepath.Join(c2, "hidden\x01control"): "x",
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"inside":   "stdout",
		"absolute": filepath.Join(work, "secret"),
		"climbing": "../../../../../../../../../secret",
		"other":    "../c1/stdout",
		"folder":   filepath.Join(work),
		"loop":     "loop",
		"proc":     "/proc/self/root/etc/passwd",
		"dangling": "nowhere",
	} {
		if err := os.Symlink(target, filepath.Join(c2, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(c2, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("fifo", filepath.Join(c2, "tofifo")); err != nil {
		t.Fatal(err)
	}
	past := time.Unix(1_700_000_000, 0)
	if err := os.Chtimes(filepath.Join(runs, "c1"), past, past); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(filepath.Join(work, "slaves"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return &host{id: "S0", recovered: true, work: work, root: root}
}

func (h *host) config() AgentConfig {
	return AgentConfig{State: h, Monitor: h, Tracer: h, Version: &mesos.VersionInfo{Version: proto.String("0.1.0")}, Sandboxes: h.root}
}

// query asks a /files endpoint; params are name, value pairs.
func (h *host) query(t *testing.T, endpoint string, params ...string) (int, string) {
	t.Helper()
	values := url.Values{}
	for i := 0; i < len(params); i += 2 {
		values.Set(params[i], params[i+1])
	}
	r := ask{"GET", endpoint + "?" + values.Encode(), nil, ""}.to(t, Secure(NewAgent(h.config()), SecureConfig{}))
	return r.StatusCode, bodyOf(t, r)
}

const latest = "/frameworks/F/executors/T/runs/latest"

func TestReadFiles(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct {
		params []string
		status int
		body   string
	}{
		{[]string{"path", latest + "/stdout", "offset", "0"}, 200, `{"data":"hello\n","offset":0}`},
		{[]string{"path", latest + "/stdout", "offset", "2", "length", "2"}, 200, `{"data":"ll","offset":2}`},
		{[]string{"path", latest + "/stdout", "offset", "2", "length", "-1"}, 200, `{"data":"llo\n","offset":2}`},
		{[]string{"path", latest + "/stdout", "offset", "-1"}, 200, `{"data":"","offset":6}`},
		{[]string{"path", latest + "/stdout"}, 200, `{"data":"","offset":6}`},
		{[]string{"path", latest + "/stdout", "offset", "6"}, 200, `{"data":"","offset":6}`},
		{[]string{"path", latest + "/stdout", "offset", "9223372036854775807"}, 200, `{"data":"","offset":9223372036854775807}`},
		{[]string{"path", latest + "/stdout", "offset", "0", "length", "0"}, 200, `{"data":"","offset":0}`},
		{[]string{"path", latest + "/stdout", "offset", "0", "length", "9223372036854775807"}, 200, `{"data":"hello\n","offset":0}`},
		{[]string{"path", latest + "/empty", "offset", "0"}, 200, `{"data":"","offset":0}`},
		{[]string{"path", latest + "/inside", "offset", "0"}, 200, `{"data":"hello\n","offset":0}`},
		{[]string{"path", latest + "/logs/a b%2f&<x>", "offset", "0"}, 200, `{"data":"odd name","offset":0}`},
		{[]string{"path", latest + "/bytes", "offset", "0"}, 200, `{"data":"\ufffd\u0000\ufffd","offset":0}`},
		{[]string{"path", "/frameworks/F/executors/T/runs/c1/stdout", "offset", "0"}, 200, `{"data":"first run","offset":0}`},
		{[]string{"path", "/slaves/S0" + latest + "/stdout", "offset", "0"}, 200, `{"data":"hello\n","offset":0}`},
		{[]string{"path", h.work + "/slaves/S0" + latest + "/stdout", "offset", "0"}, 200, `{"data":"hello\n","offset":0}`},
		{nil, 400, "Expecting 'path=value' in query.\n"},
		{[]string{"path", latest + "/stdout", "offset", "-2"}, 400, "Negative offset provided: -2.\n"},
		{[]string{"path", latest + "/stdout", "length", "-2"}, 400, "Negative length provided: -2.\n"},
		{[]string{"path", latest + "/stdout", "offset", "x"}, 400, "Failed to parse offset: \"x\" is not a number that a file can have.\n"},
		{[]string{"path", latest + "/stdout", "length", ""}, 400, "Failed to parse length: \"\" is not a number that a file can have.\n"},
	} {
		status, body := h.query(t, "/files/read", c.params...)
		if status != c.status || body != c.body {
			t.Errorf("%q: got %d %q, want %d %q", c.params, status, body, c.status, c.body)
		}
	}
	_, body := h.query(t, "/files/read", "path", latest+"/large", "offset", "5")
	var part struct{ Data string }
	if err := json.Unmarshal([]byte(body), &part); err != nil || len(part.Data) != maxRead {
		t.Errorf("a large file gives %d bytes, %v; want %d", len(part.Data), err, maxRead)
	}
}

// Nothing beside the sandbox is read, and nothing hangs.
func TestTraversal(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct {
		path   string
		status int
	}{
		{latest + "/../c1/stdout", 400},
		{latest + "/../../../../../../../../secret", 400},
		{latest + "/logs/../stdout", 400},
		{latest + "/./stdout", 400},
		{latest + "//stdout", 400},
		{latest + "/..%2f..%2fsecret", 404},
		{latest + `/..\..\secret`, 404},
		{latest + "/stdout\x00.txt", 400},
		{latest + "/stdout/x", 404},
		{latest + "/" + repeat("x", 300), 400},
		{latest + "/nothing", 404},
		{latest + "/dangling", 404},
		{latest + "/absolute", 400},
		{latest + "/climbing", 400},
		{latest + "/other", 400},
		{latest + "/folder/secret", 400},
		{latest + "/loop", 400},
		{latest + "/proc", 400},
		{latest + "/fifo", 400},
		{latest + "/tofifo", 400},
		{latest + "/logs", 400},
		{latest, 400},
		{"/frameworks/F/executors/T/runs/../runs/c1/stdout", 400},
		{"/frameworks/F/executors/T/runs/c9/stdout", 404},
		{"/frameworks/F/executors/U/runs/latest/stdout", 404},
		{"/frameworks/F/executors/T/runs", 404},
		{"/slaves/S1" + latest + "/stdout", 404},
		{"/slaves/secret", 404},
		{"/slaves/..", 400},
		{"/secret", 404},
		{"/etc/passwd", 404},
		{"/", 404},
		{"stdout", 400},
		{"..", 400},
		{h.work + "/secret", 404},
		{h.work + "/slaves/secret", 404},
		{h.work + "/slaves/../secret", 400},
	} {
		for _, endpoint := range []string{"/files/read", "/files/browse"} {
			status, body := h.query(t, endpoint, "path", c.path, "offset", "0")
			if strings.Contains(body, secret) || strings.Contains(body, "root:") || strings.Contains(body, "first run") {
				t.Errorf("%s %q: leaks %q", endpoint, c.path, body)
			}
			if endpoint == "/files/read" && status != c.status {
				t.Errorf("%q: got %d %q, want %d", c.path, status, body, c.status)
			}
			if status != 200 && strings.Contains(body, h.work) && !strings.Contains(c.path, h.work) {
				t.Errorf("%s %q: tells a path of the host: %q", endpoint, c.path, body)
			}
		}
	}
}

func TestBrowse(t *testing.T) {
	h := newHost(t)
	status, body := h.query(t, "/files/browse", "path", latest+"/")
	var rows []map[string]any
	if err := json.Unmarshal([]byte(body), &rows); err != nil || status != 200 {
		t.Fatalf("%d %s: %v", status, body, err)
	}
	modes, last := map[string]any{}, ""
	for _, row := range rows {
		name := row["path"].(string)
		if !strings.HasPrefix(name, latest+"/") || name < last {
			t.Errorf("path %q after %q", name, last)
		}
		if len(row) != 7 || row["nlink"].(float64) < 1 || row["mtime"].(float64) < 1e9 || row["uid"] == "" || row["gid"] == "" {
			t.Errorf("row %v", row)
		}
		modes[strings.TrimPrefix(name, latest+"/")], last = row["mode"], name
	}
	for name, want := range map[string]string{"stdout": "-rw-r--r--", "logs": "drwxr-xr-x", "fifo": "prw-r--r--", "absolute": "lrwxrwxrwx"} {
		if modes[name] != want {
			t.Errorf("%s has mode %v, want %s", name, modes[name], want)
		}
	}
	if status, body := h.query(t, "/files/browse", "path", latest+"/stdout"); status != 200 || body != "[]" {
		t.Errorf("a file: %d %s", status, body)
	}
	if status, body := h.query(t, "/files/browse"); status != 400 || body != "Expecting 'path=value' in query.\n" {
		t.Errorf("no path: %d %s", status, body)
	}
}

// A link that is exchanged for a file, a link outside and a FIFO while it is read shows
// the file or nothing.
func TestSwappedLink(t *testing.T) {
	h := newHost(t)
	dir := filepath.Join(h.work, "slaves/S0/frameworks/F/executors/T/runs/c2")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		targets := []string{"stdout", filepath.Join(h.work, "secret"), "../c1/stdout", "fifo"}
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			next := filepath.Join(dir, "next")
			if os.Symlink(targets[i%len(targets)], next) == nil {
				os.Rename(next, filepath.Join(dir, "swap"))
			}
		}
	}()
	for range 3000 {
		part, err := files{root: h.root, agent: h.AgentID}.read(latest+"/swap", 0, maxRead)
		if err == nil && string(part.data) != "hello\n" {
			t.Fatalf("read %q", part.data)
		}
	}
	close(stop)
	<-stopped
}

func TestAgentCalls(t *testing.T) {
	readPb := wire(t, &agentpb.Call{Type: agentpb.Call_READ_FILE.Enum(), ReadFile: &agentpb.Call_ReadFile{
		Path: proto.String(latest + "/stdout"), Offset: proto.Uint64(1), Length: proto.Uint64(3),
	}})
	readAnswer := wire(t, &agentpb.Response{Type: agentpb.Response_READ_FILE.Enum(), ReadFile: &agentpb.Response_ReadFile{
		Size: proto.Uint64(6), Data: []byte("ell"),
	}})
	for _, c := range []struct {
		name    string
		down    bool
		ask     ask
		status  int
		message string // as in check
	}{
		{"not recovered", true, ask{"GET", "/api/v1", nil, ""}, 503, "=Agent has not finished recovery"},
		{"method", false, ask{"GET", "/api/v1", nil, ""}, 405, "=405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'."},
		{"no content type", false, ask{"POST", "/api/v1", nil, ""}, 400, "=Expecting 'Content-Type' to be present"},
		{"other content type", false, ask{"POST", "/api/v1", []string{"Content-Type: text/html"}, ""}, 415, "=Expecting 'Content-Type' of application/json or application/x-protobuf or application/recordio"},
		{"stream in", false, ask{"POST", "/api/v1", []string{"Content-Type: application/recordio"}, ""}, 501, ""},
		{"message type", false, ask{"POST", "/api/v1", []string{asJSON, "Message-Content-Type: application/json"}, ""}, 415, "=Expecting 'Message-Content-Type' to be not set for non-streaming requests"},
		{"unacceptable", false, ask{"POST", "/api/v1", []string{asJSON, "Accept: text/html"}, ""}, 406, "=Expecting 'Accept' to allow application/json or application/x-protobuf or application/recordio"},
		{"stream out", false, ask{"POST", "/api/v1", []string{asJSON, "Accept: application/recordio"}, ""}, 501, ""},
		{"message accept", false, ask{"POST", "/api/v1", []string{asJSON, "Message-Accept: application/json"}, ""}, 406, "=Expecting 'Message-Accept' to be not set for non-streaming responses"},
		{"not JSON", false, ask{"POST", "/api/v1", []string{asJSON}, "{"}, 400, "Failed to parse body into JSON: "},
		{"missing required field", false, ask{"POST", "/api/v1", []string{asJSON}, `{"type":"READ_FILE","read_file":{"path":"/"}}`}, 400, "Missing required fields: "},
		{"not protobuf", false, ask{"POST", "/api/v1", []string{asProtobuf}, "\xff"}, 400, "=Failed to parse body into a protobuf object"},
		{"no type", false, ask{"POST", "/api/v1", []string{asJSON}, "{}"}, 400, "=Failed to validate agent::Call: Expecting 'type' to be present"},
		{"no part", false, ask{"POST", "/api/v1", []string{asJSON}, `{"type":"READ_FILE"}`}, 400, "=Failed to validate agent::Call: Expecting 'read_file' to be present"},
		{"no part to list", false, ask{"POST", "/api/v1", []string{asJSON}, `{"type":"LIST_FILES"}`}, 400, "=Failed to validate agent::Call: Expecting 'list_files' to be present"},
		{"UNKNOWN", false, ask{"POST", "/api/v1", []string{asJSON}, `{"type":"UNKNOWN"}`}, 501, "=501 Not Implemented."},
		{"not yet", false, ask{"POST", "/api/v1", []string{asJSON}, `{"type":"GET_OPERATIONS"}`}, 501, "=The call GET_OPERATIONS is not carried out by this version yet."},
		{"health", false, ask{"POST", "/slave(1)/api/v1", []string{asJSON}, `{"type":"GET_HEALTH"}`}, 200, `={"type":"GET_HEALTH","get_health":{"healthy":true}}`},
		{"version call", false, ask{"POST", "/api/v1", []string{asJSON}, `{"type":"GET_VERSION"}`}, 200, `={"type":"GET_VERSION","get_version":{"version_info":{"version":"0.1.0"}}}`},
		{"read", false, ask{"POST", "/api/v1", []string{asProtobuf, "Accept: application/x-protobuf"}, readPb}, 200, "=" + readAnswer},
		{"read all", false, ask{"POST", "/api/v1", []string{asJSON}, `{"type":"READ_FILE","read_file":{"path":"` + latest + `/stdout","offset":0}}`}, 200, `={"type":"READ_FILE","read_file":{"size":6,"data":"aGVsbG8K"}}`},
		{"read beyond the end", false, ask{"POST", "/api/v1", []string{asJSON}, `{"type":"READ_FILE","read_file":{"path":"` + latest + `/stdout","offset":18446744073709551615}}`}, 200, `={"type":"READ_FILE","read_file":{"size":6,"data":""}}`},
		{"read nothing there", false, ask{"POST", "/api/v1", []string{asJSON}, `{"type":"READ_FILE","read_file":{"path":"` + latest + `/x","offset":0}}`}, 404, "nothing is at "},
		{"list", false, ask{"POST", "/api/v1", []string{asJSON}, `{"type":"LIST_FILES","list_files":{"path":"` + latest + `/logs"}}`}, 200, `{"type":"LIST_FILES","list_files":{"file_infos":[{"path":"` + latest + `/logs/a b%2f`},
		{"list what leads out", false, ask{"POST", "/api/v1", []string{asJSON}, `{"type":"LIST_FILES","list_files":{"path":"` + latest + `/folder"}}`}, 400, "bad path: "},
		{"plain health", true, ask{"GET", "/slave(1)/health", nil, ""}, 200, "="},
		{"plain version", true, ask{"GET", "/version", nil, ""}, 200, `={"version":"0.1.0"}`},
		{"nothing there", false, ask{"GET", "/x", nil, ""}, 404, "There is nothing at"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			h.recovered = !c.down
			r := c.ask.to(t, Secure(NewAgent(h.config()), SecureConfig{}))
			body := bodyOf(t, r)
			whole, exact := strings.CutPrefix(c.message, "=")
			if r.StatusCode != c.status || exact && body != whole || !strings.HasPrefix(body, whole) {
				t.Errorf("got %d %q, want %d %q", r.StatusCode, body, c.status, c.message)
			}
		})
	}
}

func TestNoAgentIDYet(t *testing.T) {
	h := newHost(t)
	h.id = ""
	if status, body := h.query(t, "/files/read", "path", latest+"/stdout"); status != 404 {
		t.Errorf("%d %q", status, body)
	}
	if status, _ := h.query(t, "/files/read", "path", "/slaves/S0"+latest+"/stdout"); status != 200 {
		t.Errorf("by the full path: %d", status)
	}
}

// Whatever path is asked for, nothing beside the sandboxes is read.
func FuzzPath(f *testing.F) {
	for _, s := range []string{latest + "/stdout", latest + "/../../x", "/slaves/S0/" + latest, "//", "\x00", latest + "/absolute"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		h := newHost(t)
		part, err := files{root: h.root, agent: h.AgentID}.read(path, 0, maxRead)
		if err == nil && strings.Contains(string(part.data), secret) {
			t.Fatalf("%q leads out", path)
		}
	})
}
