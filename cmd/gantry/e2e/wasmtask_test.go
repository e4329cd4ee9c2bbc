package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
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
)

// prober is a module that tells what it sees.
var prober = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "gantry-e2e-prober-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", dir+"/prober.wasm", "./testdata/prober")
	build.Env, build.Stderr = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm"), os.Stderr
	if err := build.Run(); err != nil {
		return nil, err
	}
	return os.ReadFile(dir + "/prober.wasm")
})

// command assembles a module whose _start has this body; it imports proc_exit as its function 0, and then what else is given. It has
// a page of memory.
func command(body string, imports ...string) []byte {
	size := func(s string) string {
		n, b := len(s), ""
		for ; n >= 0x80; n >>= 7 {
			b += string([]byte{byte(n) | 0x80})
		}
		return b + string([]byte{byte(n)}) + s
	}
	section := func(id byte, items ...string) string {
		return string([]byte{id}) + size(string([]byte{byte(len(items))})+strings.Join(items, ""))
	}
	functions := byte(1)
	all := []string{size("wasi_snapshot_preview1") + size("proc_exit") + "\x00\x01"}
	for _, i := range imports {
		module, rest, _ := strings.Cut(i, ".")
		name, kind, _ := strings.Cut(rest, " ")
		if kind[0] == 0 {
			functions++
		}
		all = append(all, size(module)+size(name)+kind)
	}
	return []byte("\x00asm\x01\x00\x00\x00" + section(1, "\x60\x00\x00", "\x60\x01\x7f\x00") + section(2, all...) + section(3, "\x00") +
		section(4, "\x70\x00\x01") + section(5, "\x00\x01") + section(7, size("_start")+"\x00"+string(functions), size("memory")+"\x02\x00") +
		section(10, size("\x00"+body+"\x0b")))
}

// Bodies of commands.
const (
	traps = "\x00"
	loops = "\x03\x40\x0c\x00\x0b"
	// grows takes and fills memory until there is no more, and ends with 7.
	grows = "\x03\x40\x41\x10\x40\x00\x41\x7f\x46\x04\x40\x41\x07\x10\x00\x0b\x41\x00\x41\x01\x3f\x00\x41\x10\x74\xfc\x0b\x00\x0c\x00\x0b"
	// tabulates makes a table of 100 million entries, which is no memory of the module's own, and ends with 5.
	tabulates = "\xd0\x70\x41\x80\xc2\xd7\x2f\xfc\x0f\x00\x1a\x41\x05\x10\x00"
)

// modules has files with modules.
type modules struct {
	t   *testing.T
	dir string
}

func (m modules) file(name string, code []byte) string {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.WriteFile(path, code, 0o644); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// upWithModules starts a cluster whose agent fetches from the folder of the modules.
func upWithModules(t *testing.T, flags ...string) (*cluster, modules, string) {
	t.Helper()
	code, err := prober()
	if err != nil {
		t.Fatal(err)
	}
	dir, manifest := newWorkDir(t), filepath.Join(t.TempDir(), "plugins.toml")
	text := "[plugin.drf]\nkind = \"allocator\"\n\n[plugin.marathon]\nkind = \"framework\"\nlisten = \"127.0.0.1:0\"\n\n" +
		"[plugin.wasm]\nkind = \"containerizer\"\nimages = [\"wasm\"]\nrunner = \"containerizer-wasm-run\"\nmemory_mb = 256\n" +
		"[plugin.wasm.config]\nmax_module_mb = 20\n"
	if err := os.WriteFile(manifest, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := up(t, dir, append([]string{"--plugins", manifest, "--no-demo"}, flags...)...)
	m := modules{t, filepath.Join(dir, "artifacts")}
	return c, m, m.file("prober.wasm", code)
}

// checkNoModulesHeld waits until no container's module is held.
func (c *cluster) checkNoModulesHeld(t *testing.T) {
	t.Helper()
	var left []string
	await(t, soon, "end of all containers of modules", func() string { return strings.Join(left, " ") + "\n" + c.describe() }, func() bool {
		left = nil
		for _, dir := range []string{"agent/containers", "agent/images/wasm/held", "agent/images/wasm/begun"} {
			found, err := filepath.Glob(filepath.Join(c.workDir, dir, "*"))
			if err != nil {
				t.Fatal(err)
			}
			left = append(left, found...)
		}
		return len(left) == 0
	})
}

func TestWASMTasks(t *testing.T) {
	c, m, prober := upWithModules(t)
	t.Run("what they see", func(t *testing.T) { seenByModule(t, c, m, prober) })
	t.Run("how they end", func(t *testing.T) { endsOfModules(t, c, m, prober) })
	t.Run("bad", func(t *testing.T) { badModules(t, c, m) })
	t.Run("examples", func(t *testing.T) { exampleModules(t, c, m) })
	c.checkNoModulesHeld(t)
	c.end()
	c.checkNothingLeft()
}

// moduleView is what prober tells.
type moduleView struct {
	Args, Env, Root []string
	Paths, Tries    map[string]string
	Clock           time.Time
}

func seenByModule(t *testing.T, c *cluster, m modules, prober string) {
	book := m.file("book", []byte("once upon a time"))
	out := c.must("run", "--mem", "64", "--wasm", prober, "--uri", "file://"+book, "--env", "COLOR=red", "--",
		"look", "/book", "book", "/etc/passwd", "/etc/hosts", "/proc/self/status", "/module.wasm", "/mnt/mesos/sandbox/book")
	var v moduleView
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v: %q", err, out)
	}
	if !slices.Equal(v.Args[:3], []string{"prober.wasm", "look", "/book"}) {
		t.Errorf("arguments %q", v.Args)
	}
	for _, want := range []string{"COLOR=red", "MESOS_SANDBOX=/", "PWD=/"} {
		if !slices.Contains(v.Env, want) {
			t.Errorf("no %s in %q", want, v.Env)
		}
	}
	if late := time.Since(v.Clock); late < 0 || late > soon {
		t.Errorf("its clock says %s", v.Clock)
	}
	slices.Sort(v.Root)
	if !slices.Equal(v.Root, []string{"book", "prober.wasm", "stderr", "stdout"}) {
		t.Errorf("/ has %q", v.Root)
	}
	for path, text := range v.Paths {
		if strings.HasSuffix(path, "book") && !strings.HasPrefix(path, "/mnt") {
			if text != "once upon a time" {
				t.Errorf("%s is %q", path, text)
			}
		} else if !strings.HasPrefix(text, "error: ") {
			t.Errorf("it reads %s: %q", path, text)
		}
	}
	may := []string{"list /", "write to the sandbox", "write outside", "make a link out"} // nothing is above / but itself
	for what, failed := range v.Tries {
		if slices.Contains(may, what) != (failed == "") {
			t.Errorf("%s: %q", what, failed)
		}
	}
	if len(v.Tries) != 12 {
		t.Errorf("it tried %v", v.Tries)
	}
}

func endsOfModules(t *testing.T, c *cluster, m modules, prober string) {
	large := bytes.Replace(command(traps), []byte("\x05\x03\x01\x00\x01"), []byte("\x05\x04\x01\x00\x80\x04"), 1) // 32 MB
	for what, test := range map[string]struct {
		args       []string
		status     int
		out, words string
	}{
		"exit":        {[]string{"--mem", "64", "--wasm", prober, "--", "exit", "7"}, 7, "", ""},
		"trap":        {[]string{"--wasm", m.file("trap.wasm", command(traps))}, 134, "", "wasm error: unreachable"},
		"grow":        {[]string{"--wasm", m.file("grow.wasm", command(grows))}, 7, "", ""},
		"eat":         {[]string{"--mem", "64", "--wasm", prober, "--", "eat"}, 2, "ate 16", "out of memory"},
		"table":       {[]string{"--wasm", m.file("table.wasm", command(tabulates))}, 137, "", "more than its 32 MB"},
		"little room": {[]string{"--mem", "40", "--wasm", m.file("room.wasm", large)}, 125, "", "the module needs 43 MB to begin with, and the task has 40"},
	} {
		status, out, errOut := c.gantry(append([]string{"run"}, test.args...)...)
		if status != test.status || !strings.Contains(out, test.out) || !strings.Contains(errOut, test.words) {
			t.Errorf("%s: exit status %d, %q: %s", what, status, out, errOut)
		}
	}
	// A loop that calls nobody is killed as anything else is.
	for _, args := range [][]string{{"--wasm", m.file("loop.wasm", command(loops))}, {"--mem", "64", "--wasm", prober, "--", "loop"}} {
		cmd, shown := c.begin(append([]string{"run"}, args...)...)
		await(t, soon, "looping module", c.describe, func() bool { return strings.Contains(c.must("task", "list"), "running") })
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		cmd.Wait() // its status is looked at
		if cmd.ProcessState.ExitCode() == 0 {
			t.Errorf("%q ends well: %s", args, shown)
		}
	}
}

// badModules are refused before they start, with a sentence, and leave the plugin alive.
func badModules(t *testing.T, c *cluster, m modules) {
	good := command(traps)
	adds := bytes.Repeat([]byte("\x41\x00\x28\x02\x00\x6a"), 1<<20)
	plugin := c.plugin("wasm")
	for what, test := range map[string]struct {
		code []byte
		want string
	}{
		"function":  {command(traps, "env.system \x00\x00"), `imports \"env.system\"`},
		"memory":    {command(traps, "env.secret \x03\x7f\x00"), `imports \"env.secret (a global)\"`},
		"socket":    {command(traps, "wasi_snapshot_preview1.sock_open \x00\x00"), "WASI preview 1"},
		"cut off":   {good[:len(good)-5], "no WASM module"},
		"garbage":   {append([]byte("\x00asm"), bytes.Repeat([]byte("garbage"), 1000)...), "no WASM module"},
		"version":   {append([]byte("\x00asm\x02\x00\x00\x00"), good[8:]...), "no WASM module"},
		"large":     {append(slices.Clip(good), make([]byte, 20<<20)...), "may have 20"},
		"bomb":      {command("\x41\x00\x28\x02\x00" + string(adds) + "\x1a"), "takes too much to compile"},
		"no module": {[]byte("#!/bin/sh"), "it is no WASM module"},
	} {
		status, _, errOut := c.gantry("run", "--wasm", m.file("bad.wasm", test.code))
		want := strings.ReplaceAll(test.want, `\"`, `"`)
		if status != 125 || !strings.Contains(errOut, want) {
			t.Errorf("%s: exit status %d, not %q: %s", what, status, want, errOut)
		}
	}
	if now := c.plugin("wasm"); now != plugin {
		t.Errorf("the plugin was %d and is %d", plugin, now)
	}
	// What is no file of the sandbox is no module.
	status, _, errOut := c.gantry("run", "--image", "wasm:/bin/gantry")
	if status != 125 || !strings.Contains(errOut, "there is no bin/gantry in the task's sandbox") {
		t.Errorf("exit status %d: %s", status, errOut)
	}
	status, _, errOut = c.gantry("run", "--image", "wasm:/a.wasm", "--", "true")
	if status != 125 || !strings.Contains(errOut, "leave the command's 'value' out") {
		t.Errorf("exit status %d: %s", status, errOut)
	}
}

func exampleModules(t *testing.T, c *cluster, m modules) {
	book := m.file("lines", []byte("one two\nthree\n"))
	run := func(path, want string) {
		t.Helper()
		if out := c.must("run", "--wasm", path, "--uri", "file://"+book, "--", "lines"); out != want {
			t.Errorf("%s says %q, not %q", path, out, want)
		}
	}
	run(filepath.Join(bin, "examples", "sum.wasm"), "6481b98de00b3b8c0eccd56b3877aa72d7cbb9c2b97142fa35f7177f9456926d  lines\n")
	tally := filepath.Join(t.TempDir(), "tally.wasm")
	build := exec.Command("../../../examples/wasm-task-c/build.sh", tally)
	if said, err := build.CombinedOutput(); err != nil {
		if os.Getenv("GANTRY_REQUIRE_ROOT") == "" {
			t.Skipf("the example in C needs clang, lld and wasi-libc: %v: %s", err, said)
		}
		t.Fatalf("%v: %s", err, said)
	}
	run(tally, "2 3 14 lines\n")
}

// A service of modules, through Marathon; its instances live on when everything around them is killed.
func TestServiceOfModules(t *testing.T) {
	c, m, prober := upWithModules(t)
	body := `{"id": "watch", "args": ["wait", "/end"], "instances": 2, "cpus": 0.1, "mem": 64, "fetch": [{"uri": "file://` + prober + `"}],
		"container": {"type": "MESOS", "docker": {"image": "wasm:/prober.wasm"}}}`
	resp, err := http.Post("http://"+c.at.Marathon+"/v2/apps", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("%d: %s", resp.StatusCode, answer)
	}
	ids := func() (ids []string) {
		for line := range strings.Lines(c.must("task", "list")) {
			if fields := strings.Fields(line); len(fields) > 1 && fields[1] == "running" && strings.HasPrefix(fields[0], "watch") {
				ids = append(ids, fields[0])
			}
		}
		slices.Sort(ids)
		return ids
	}
	await(t, soon, "two instances", c.describe, func() bool { return len(ids()) == 2 })
	before := ids()
	waited := func(id string) int {
		_, out, _ := c.gantry("task", "logs", id) // which fails while its agent is away
		lines := strings.Fields(out)
		if len(lines) == 0 {
			return 0
		}
		n, _ := strconv.Atoi(lines[len(lines)-1])
		return n
	}
	plugin := c.plugin("wasm")
	if err := syscall.Kill(plugin, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, soon, "containerizer in its place", c.describe, func() bool { p := c.plugin("wasm"); return p != 0 && p != plugin })
	c.killAgent(t)
	await(t, soon, "agent in its place", c.describe, func() bool { return c.plugin("wasm") != 0 && len(ids()) == 2 })
	reached := waited(before[0])
	await(t, soon, "instance that goes on", c.describe, func() bool { return waited(before[0]) > reached })
	if now := ids(); !slices.Equal(now, before) {
		t.Errorf("the instances were %q and are %q", before, now)
	}
	// One that is compiled while the plugin is killed is compiled by the next.
	code, err := os.ReadFile(prober)
	if err != nil {
		t.Fatal(err)
	}
	cmd, shown := c.begin("run", "--mem", "64", "--wasm", m.file("another.wasm", slices.Concat(code, []byte("\x00\x06\x04note!"))), "--", "exit", "5")
	await(t, soon, "compile", func() string { return shown.String() + c.describe() }, func() bool {
		found, err := filepath.Glob(filepath.Join(c.workDir, "agent/images/wasm/begun/code-*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found) > 0
	})
	if err := syscall.Kill(c.plugin("wasm"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() // its status is looked at
	if status := cmd.ProcessState.ExitCode(); status != 5 {
		t.Errorf("exit status %d: %s", status, shown)
	}
	c.must("task", "kill", before[0])
	await(t, soon, "another instance", c.describe, func() bool { now := ids(); return len(now) == 2 && !slices.Contains(now, before[0]) })
	c.must("app", "remove", "watch")
	c.checkNoModulesHeld(t)
	c.end()
	c.checkNothingLeft()
}

// TestWASMFigures prints what BENCHMARKS.md says of modules: from ACCEPT to RUNNING, as the master's clock has it.
func TestWASMFigures(t *testing.T) {
	c, m, prober := upWithModules(t)
	program, err := os.ReadFile(prober)
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (running, all time.Duration) {
		var ended struct {
			Task string `json:"task_id"`
		}
		began := time.Now()
		out := c.must(append([]string{"run", "--json", "--cpus", "1", "--mem", "64"}, args...)...)
		all = time.Since(began)
		if err := json.Unmarshal([]byte(out), &ended); err != nil {
			t.Fatal(err)
		}
		return c.started(t, ended.Task), all
	}
	figures := map[string][]time.Duration{}
	note := func(what string, args ...string) {
		running, all := run(args...)
		figures[what] = append(figures[what], running)
		figures[what+", the whole command"] = append(figures[what+", the whole command"], all)
	}
	for i := range 5 {
		// A section that means nothing makes another module of it.
		another := slices.Concat(program, []byte{0, 3, 1, 'n', byte(i)})
		small := slices.Concat(command("\x41\x00\x10\x00"), []byte{0, 3, 1, 'n', byte(i)})
		note("no module", "--", "true")
		for _, how := range []string{"cold", "cached"} {
			note("module of Go, "+how, "--wasm", m.file("figures.wasm", another), "--", "exit", "0")
			note("module of 100 bytes, "+how, "--wasm", m.file("small.wasm", small))
		}
	}
	var names []string
	for what := range figures {
		names = append(names, what)
	}
	slices.Sort(names)
	for _, what := range names {
		t.Logf("ACCEPT to RUNNING, %s: median of 5 %s, longest %s", what, median(figures[what]), slices.Max(figures[what]))
	}
	c.end()
	c.checkNothingLeft()
}
