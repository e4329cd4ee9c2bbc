package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// file is one of a layer's; a name that ends in / is a directory's.
type file struct {
	name, content string
	mode          int64
}

// layerOf is a layer of files and of entries as they are.
func layerOf(t *testing.T, files []file, more ...*tar.Header) v1.Layer {
	t.Helper()
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), Typeflag: tar.TypeReg}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range more {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(w, zeros{}, h.Size); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// imageOf has layers, the bottom first, and runs what config says.
func imageOf(t *testing.T, config v1.Config, layers ...v1.Layer) v1.Image {
	t.Helper()
	image, err := mutate.AppendLayers(empty.Image, layers...)
	if err == nil {
		image, err = mutate.Config(image, config)
	}
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// insider is a static program that tells what it sees.
var insider = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "gantry-e2e-insider-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir+"/insider", "./testdata/insider")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return "", err
	}
	text, err := os.ReadFile(dir + "/insider")
	return string(text), err
})

func insideLayer(t *testing.T) v1.Layer {
	t.Helper()
	program, err := insider()
	if err != nil {
		t.Fatal(err)
	}
	return layerOf(t, []file{
		{"bin/", "", 0o755}, {"bin/insider", program, 0o755}, {"tmp/", "", 0o1777}, {"etc/", "", 0o755},
		{"etc/passwd", "root:x:0:0::/:\nteller:x:1234:100::/:\n", 0o644},
		{"etc/group", "users:x:100:\nstaff:x:50:teller\n", 0o644},
		{"gone", "below", 0o644}, {"kept", "below", 0o644}, {"full/", "", 0o755}, {"full/a", "below", 0o644},
	})
}

// upperLayer hides some of insideLayer.
func upperLayer(t *testing.T) v1.Layer {
	return layerOf(t, []file{{".wh.gone", "", 0o644}, {"full/", "", 0o755}, {"full/.wh..wh..opq", "", 0o644}, {"full/b", "above", 0o644}})
}

// toldConfig says much of how its image runs.
var toldConfig = v1.Config{
	Entrypoint: []string{"/bin/insider"}, Cmd: []string{"look", "from-cmd"}, User: "teller", WorkingDir: "/full",
	Env: []string{"PATH=/bin", "COLOR=red", "MESOS_TASK_ID=forged", "nonsense"},
}

// hub is a registry of this test's.
type hub struct {
	*httptest.Server
	// stall holds up who asks for a blob while it is locked for writing.
	stall sync.RWMutex
	asked chan struct{} // one for each who was held up, or would have been
}

func newHub(t *testing.T) *hub {
	h := &hub{asked: make(chan struct{}, 100)}
	serve := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") && r.Method == http.MethodGet {
			select {
			case h.asked <- struct{}{}:
			default:
			}
			h.stall.RLock()
			defer h.stall.RUnlock()
		}
		serve.ServeHTTP(w, r)
	}))
	t.Cleanup(h.Close)
	return h
}

// push returns the image's name.
func (h *hub) push(t *testing.T, as string, image v1.Image) string {
	t.Helper()
	ref := strings.TrimPrefix(h.URL, "http://") + "/" + as
	parsed, err := name.ParseReference(ref)
	if err == nil {
		err = remote.Write(parsed, image)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// upWithImages starts a cluster that may read images below the folder that it returns.
func upWithImages(t *testing.T, flags ...string) (*cluster, string) {
	t.Helper()
	dir, roots := newWorkDir(t), t.TempDir()
	manifest := filepath.Join(t.TempDir(), "plugins.toml")
	text := "[plugin.drf]\nkind = \"allocator\"\n\n[plugin.marathon]\nkind = \"framework\"\nlisten = \"127.0.0.1:0\"\n\n" +
		"[plugin.oci]\nkind = \"containerizer\"\nimages = [\"docker\", \"oci\", \"docker-archive\"]\n" +
		"[plugin.oci.config]\nroots = [\"" + roots + "\"]\nmax_image_mb = 100\ncache_mb = 150\nmax_image_files = 1000\n"
	if err := os.WriteFile(manifest, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return up(t, dir, append([]string{"--plugins", manifest}, flags...)...), roots
}

// sight is what insider tells.
type sight struct {
	Args, Env             []string
	Cwd, NoNewPrivs, Root string
	UID, GID              int
	Groups                []int
	Paths                 map[string]string
}

// look runs an image and reads what insider tells.
func (c *cluster) look(t *testing.T, args ...string) sight {
	t.Helper()
	var s sight
	out := c.must(append([]string{"run"}, args...)...)
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v: %q", err, out)
	}
	return s
}

func TestImages(t *testing.T) {
	c, roots := upWithImages(t, "--no-demo")
	h := newHub(t)
	told := imageOf(t, toldConfig, insideLayer(t), upperLayer(t))
	t.Run("from a registry", func(t *testing.T) { fromRegistry(t, c, h, told) })
	t.Run("of this host", func(t *testing.T) { fromFiles(t, c, roots, told) })
	t.Run("bad", func(t *testing.T) { badImages(t, c, h, roots) })
	if list := c.must("plugin", "list", "--agent", c.at.Agents[0]); !strings.Contains(list, "oci") || !strings.Contains(list, "running") {
		t.Errorf("the agent's plugins are\n%s", list)
	}
	c.checkNoImagesHeld(t)
	c.end()
	c.checkNothingLeft()
}

func fromRegistry(t *testing.T, c *cluster, h *hub, told v1.Image) {
	ref := h.push(t, "told:1", told)
	s := c.look(t, "--image", ref)
	if !slices.Equal(s.Args, []string{"/bin/insider", "look", "from-cmd"}) || s.Cwd != "/full" {
		t.Errorf("it ran %q in %s", s.Args, s.Cwd)
	}
	if s.UID != 1234 || s.GID != 100 || !slices.Contains(s.Groups, 50) {
		t.Errorf("it ran as %d:%d, %v", s.UID, s.GID, s.Groups)
	}
	for _, want := range []string{"PATH=/bin", "COLOR=red", "MESOS_SANDBOX=/mnt/mesos/sandbox"} {
		if !slices.Contains(s.Env, want) {
			t.Errorf("no %q in %q", want, s.Env)
		}
	}
	if slices.Contains(s.Env, "MESOS_TASK_ID=forged") || slices.Contains(s.Env, "nonsense") {
		t.Errorf("the image forged %q", s.Env)
	}
	if s.NoNewPrivs != "1" || !strings.Contains(s.Root, "nosuid") || !strings.Contains(s.Root, "nodev") {
		t.Errorf("no new rights: %q; / is %s", s.NoNewPrivs, s.Root)
	}
	s = c.look(t, "--env", "COLOR=blue", "--image", ref, "--", "insider", "look", "/gone", "/kept", "/full/a", "/full/b", "/etc/resolv.conf", "/root", "/usr", "/left")
	for path, want := range map[string]string{
		"/gone": "missing", "/kept": "file -rw-r--r-- below", "/full/a": "missing", "/full/b": "file -rw-r--r-- above", "/root": "missing", "/usr": "missing", "/left": "missing",
	} {
		if s.Paths[path] != want {
			t.Errorf("%s is %q, not %q", path, s.Paths[path], want)
		}
	}
	if !slices.Contains(s.Env, "COLOR=blue") || s.Paths["/etc/resolv.conf"] == "missing" {
		t.Errorf("the environment is %q, resolv.conf %q", s.Env, s.Paths["/etc/resolv.conf"])
	}
	// What one container writes, no other sees.
	c.must("run", "--image", ref, "--", "insider", "write", "/tmp/left")
	if s := c.look(t, "--image", ref, "--", "insider", "look", "/tmp/left", "/tmp"); s.Paths["/tmp/left"] != "missing" || s.Paths["/tmp"] != "dir" {
		t.Errorf("/tmp/left is %q", s.Paths["/tmp/left"])
	}
	if status, _, errOut := c.gantry("run", "--image", ref, "--", "insider", "exit", "7"); status != 7 {
		t.Errorf("exit status %d: %s", status, errOut)
	}
	// By digest, which the trace tells, and without the registry once it is known.
	digest, err := told.Digest()
	if err != nil {
		t.Fatal(err)
	}
	s = c.look(t, "--image", ref+"@"+digest.String())
	for _, v := range s.Env {
		if task, ok := strings.CutPrefix(v, "MESOS_TASK_ID="); ok && !strings.Contains(c.must("task", "trace", task), "prepared image "+digest.String()) {
			t.Errorf("the trace of %s does not tell %s", task, digest)
		}
	}
	h.stall.Lock()
	defer h.stall.Unlock()
	c.look(t, "--image", ref)
}

func fromFiles(t *testing.T, c *cluster, roots string, told v1.Image) {
	dir := filepath.Join(roots, "layout")
	l, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = l.AppendImage(told, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "one"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("told:saved")
	if err == nil {
		err = tarball.WriteToFile(filepath.Join(roots, "saved.tar"), tag, told)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"oci:" + dir, "oci:" + dir + ":one", "docker-archive:" + roots + "/saved.tar", "docker-archive:" + roots + "/saved.tar:" + tag.String()} {
		if s := c.look(t, "--image", ref); s.UID != 1234 || s.Cwd != "/full" {
			t.Errorf("%s ran as %d in %s", ref, s.UID, s.Cwd)
		}
	}
}

// checkNoImagesHeld waits until no container's image is held by anybody.
func (c *cluster) checkNoImagesHeld(t *testing.T) {
	t.Helper()
	var left []string
	await(t, soon, "end of all containers of images", func() string { return strings.Join(left, " ") + "\n" + c.describe() }, func() bool {
		left = nil
		for _, dir := range []string{"agent/containers", "agent/images/oci/held", "agent/images/oci/begun"} {
			found, err := filepath.Glob(filepath.Join(c.workDir, dir, "*"))
			if err != nil {
				t.Fatal(err)
			}
			left = append(left, found...)
		}
		return len(left) == 0
	})
}

// badImages are refused with a sentence, or can do no harm.
func badImages(t *testing.T, c *cluster, h *hub, roots string) {
	secret := filepath.Join(t.TempDir(), "secret.tar")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(roots, "link.tar")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(roots, "pipe.tar"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := insideLayer(t)
	plain := v1.Config{Entrypoint: []string{"/bin/insider"}}
	push := func(as string, layers ...v1.Layer) string { return h.push(t, as, imageOf(t, plain, layers...)) }
	many := []file{}
	for i := range 1001 {
		many = append(many, file{"f" + numbers(3)[:1] + strings.Repeat("x", i%200+1) + string(rune('a'+i/200)), "", 0o644})
	}
	host := strings.TrimPrefix(h.URL, "http://")
	for what, test := range map[string]struct{ ref, want string }{
		"missing":        {host + "/nothing:1", "has no such image"},
		"no name":        {"UPPER CASE", "characters that no name has"},
		"strange name":   {"Upper", "is no name of an image"},
		"kind":           {"tarball:/x", `no plugin of this agent prepares images of kind "tarball"`},
		"nobody there":   {"127.0.0.1:1/x", "registry 127.0.0.1:1"},
		"outside":        {"docker-archive:" + secret, "not allowed"},
		"dots":           {"docker-archive:" + roots + "/../x.tar", "not allowed"},
		"link out":       {"docker-archive:" + roots + "/link.tar", "link.tar"},
		"pipe":           {"docker-archive:" + roots + "/pipe.tar", "is not a file"},
		"no layout":      {"oci:" + roots, "there is no index.json"},
		"bomb":           {push("bomb", base, layerOf(t, nil, &tar.Header{Name: "zeros", Mode: 0o644, Size: 101 << 20})), "too large"},
		"many files":     {push("many", base, layerOf(t, many)), "too large"},
		"nothing to run": {h.push(t, "idle", imageOf(t, v1.Config{}, base)), "neither the task nor the image says what to run"},
		"no such user":   {h.push(t, "nobody", imageOf(t, v1.Config{Entrypoint: []string{"/bin/insider"}, User: "stranger"}, base)), "the image has no such user"},
		"large user":     {h.push(t, "large", imageOf(t, v1.Config{Entrypoint: []string{"/bin/insider"}, User: "4294967296"}, base)), "is not a number from 0 to"},
		"no program":     {h.push(t, "empty", imageOf(t, v1.Config{Entrypoint: []string{"/bin/sh"}}, base)), "there is no such program"},
		"hard link out":  {push("hard", base, layerOf(t, nil, &tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "../../../../../../etc/shadow"})), "layer sha256:"},
	} {
		t.Run(what, func(t *testing.T) {
			status, out, errOut := c.gantry("run", "--image", test.ref)
			if status != 125 && status != 1 || !strings.Contains(errOut, test.want) {
				t.Errorf("exit status %d, %q: %s", status, out, errOut)
			}
		})
	}
	harmless := push("harmless", base, layerOf(t,
		[]file{{"../../../../up", "x", 0o644}, {"/absolute", "x", 0o644}, {"bin/rise", "x", 0o6755}},
		&tar.Header{Name: "disk", Typeflag: tar.TypeBlock, Devmajor: 8, Mode: 0o666}, &tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666},
		&tar.Header{Name: "etc2", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, &tar.Header{Name: "etc2/through", Mode: 0o644},
		&tar.Header{Name: "dev", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, &tar.Header{Name: "sys", Typeflag: tar.TypeDir, Mode: 0o755},
	))
	status, out, errOut := c.gantry("run", "--image", harmless, "--", "insider", "look", "/up", "/absolute", "/bin/rise", "/disk", "/null", "/etc/through")
	if status == 0 {
		t.Logf("it ran: %s", out)
	} else if !strings.Contains(errOut, "dev") {
		t.Errorf("exit status %d: %s", status, errOut)
	}
	for _, path := range []string{"/up", "/absolute", "/etc/through", filepath.Join(c.workDir, "up")} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is there on the host", path)
		}
	}
}

// The demo application runs from an image of its own, through Marathon.
func TestDemoOfAnImage(t *testing.T) {
	c, roots := upWithImages(t, "--no-demo")
	program, err := os.ReadFile(filepath.Join(bin, "examples", "hello-web"))
	if err != nil {
		t.Fatal(err)
	}
	image := imageOf(t, v1.Config{Entrypoint: []string{"/hello-web"}, User: "65534:65534"}, layerOf(t, []file{{"hello-web", string(program), 0o755}}))
	tag, err := name.NewTag("hello-web:1")
	if err == nil {
		err = tarball.WriteToFile(filepath.Join(roots, "hello-web.tar"), tag, image)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, container := range []string{
		`{"type": "DOCKER", "docker": {"image": "docker-archive:` + roots + `/hello-web.tar", "network": "HOST"}}`,
		`{"type": "MESOS", "docker": {"image": "docker-archive:` + roots + `/hello-web.tar"}}`,
	} {
		body := `{"id": "hello-web", "container": ` + container + `, "instances": 2, "cpus": 0.1, "mem": 32,
			"portDefinitions": [{"port": 0, "name": "http"}], "healthChecks": [{"protocol": "HTTP", "path": "/"}]}`
		await(t, soon, "application", c.describe, func() bool {
			resp, err := http.Post("http://"+c.at.Marathon+"/v2/apps", "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			answer, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusConflict { // that before is still going
				t.Fatalf("%d: %s", resp.StatusCode, answer)
			}
			return resp.StatusCode == http.StatusCreated
		})
		c.awaitInstances(2)
		if i == 0 {
			await(t, soon, "end of the deployment", c.describe, func() bool {
				status, _, _ := c.gantry("app", "scale", "hello-web", "3")
				return status == 0
			})
			c.awaitInstances(3)
		}
		c.must("app", "remove", "hello-web")
	}
	c.checkNoImagesHeld(t)
	c.end()
	c.checkNothingLeft()
}

// Whoever dies while an image is being pulled, or runs: the task goes on as if nothing had happened, or fails with a
// reason, and nothing is left of it.
func TestImagesSurviveKills(t *testing.T) {
	c, _ := upWithImages(t, "--no-demo")
	h := newHub(t)
	ref := h.push(t, "told:1", imageOf(t, toldConfig, insideLayer(t), upperLayer(t)))
	await(t, soon, "containerizer", c.describe, func() bool { return c.plugin("oci") != 0 })

	pull := func() (*exec.Cmd, *screen) {
		for len(h.asked) > 0 {
			<-h.asked
		}
		cmd, shown := c.begin("run", "--image", ref, "--", "insider", "exit", "5")
		select {
		case <-h.asked:
		case <-time.After(soon):
			t.Fatalf("nobody asks for a layer\n%s\n%s", shown, c.describe())
		}
		return cmd, shown
	}
	h.stall.Lock()
	cmd, shown := pull()
	first := c.plugin("oci")
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, soon, "containerizer in its place", c.describe, func() bool { p := c.plugin("oci"); return p != 0 && p != first })

	// It asks again, and is killed together with its agent.
	select {
	case <-h.asked:
	case <-time.After(soon):
		t.Fatalf("the pull was not taken up again\n%s\n%s", shown, c.describe())
	}
	c.killAgent(t)
	h.stall.Unlock()
	cmd.Wait() // its status is looked at
	if status := cmd.ProcessState.ExitCode(); status != 5 && status != 125 {
		t.Errorf("exit status %d: %s\n%s", status, shown, c.describe())
	} else if status == 125 && !strings.Contains(shown.String(), "restarted") {
		t.Errorf("the agent's death is no reason: %s", shown)
	}
	c.checkNoImagesHeld(t)

	// One that runs does not need its agent, its plugin or its keeper.
	cmd, shown = c.begin("run", "--image", ref, "--", "insider", "wait", "/tmp/end")
	await(t, soon, "running task", c.describe, func() bool { return strings.Contains(strings.ToUpper(c.must("task", "list")), "RUNNING") })
	c.killAgent(t)
	await(t, soon, "agent in its place", c.describe, func() bool { return c.plugin("oci") != 0 })
	pids := c.keepers()
	if err := syscall.Kill(pids[len(pids)-1], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	upper, err := filepath.Glob(filepath.Join(c.workDir, "agent/containers/*/image/root/upper/tmp"))
	if err != nil || len(upper) > 1 {
		t.Fatal(upper, err)
	}
	held, err := filepath.Glob(filepath.Join(c.workDir, "agent/images/oci/held/*"))
	if err != nil || len(held) != 1 {
		t.Errorf("held: %v, %v", held, err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() // its status is looked at
	if status := cmd.ProcessState.ExitCode(); status == 0 {
		t.Errorf("exit status %d: %s", status, shown)
	}
	c.checkNoImagesHeld(t)
	c.end()
	c.checkNothingLeft()
}

// TestImageFigures prints what BENCHMARKS.md says of images: from ACCEPT to RUNNING, as the master's clock has it.
func TestImageFigures(t *testing.T) {
	c, _ := upWithImages(t, "--no-demo")
	h := newHub(t)
	config := v1.Config{Entrypoint: []string{"/bin/insider"}}
	base := insideLayer(t)
	run := func(args ...string) time.Duration {
		var ended struct {
			Task string `json:"task_id"`
		}
		if err := json.Unmarshal([]byte(c.must(append([]string{"run", "--json"}, args...)...)), &ended); err != nil {
			t.Fatal(err)
		}
		return c.started(t, ended.Task)
	}
	var plain, cold, cached []time.Duration
	for i := range 10 {
		noise := make([]byte, 8<<20)
		rand.NewChaCha8([32]byte{byte(i)}).Read(noise) // never fails
		ref := h.push(t, "figures:"+strconv.Itoa(i), imageOf(t, config, base, layerOf(t, []file{{"noise", string(noise), 0o644}})))
		plain = append(plain, run("--", "true"))
		cold = append(cold, run("--image", ref, "--", "insider", "exit", "0"))
		cached = append(cached, run("--image", ref, "--", "insider", "exit", "0"))
	}
	t.Logf("ACCEPT to RUNNING, median (longest) of 10: without an image %s (%s); image not there, a layer of 8 MB to pull %s (%s); image there %s (%s)",
		median(plain), slices.Max(plain), median(cold), slices.Max(cold), median(cached), slices.Max(cached))
	c.end()
	c.checkNothingLeft()
}

// started is how long a task took from ACCEPT to RUNNING.
func (c *cluster) started(t *testing.T, task string) time.Duration {
	t.Helper()
	var trace struct {
		Steps []struct {
			Step, State string
			At          time.Time
		}
	}
	text := c.must("task", "trace", task, "--json")
	if err := json.Unmarshal([]byte(text), &trace); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	var accepted, running time.Time
	for _, m := range trace.Steps {
		switch {
		case m.Step == "accepted":
			accepted = m.At
		case m.Step == "delivered" && m.State == "TASK_RUNNING":
			running = m.At
		}
	}
	if accepted.IsZero() || running.IsZero() {
		t.Fatalf("no start in %s", text)
	}
	return running.Sub(accepted)
}
