package host

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestManifest(t *testing.T) {
	m, err := parse("plugins.toml", []byte(`# what runs beside the master
[plugin.zebra]
kind = "framework"
listen = "127.0.0.1:8080"
memory_mb = 64
config.role = "*"
[plugin.zebra.config.nested]
deep = [1, 2.5]

[plugin.drf]
kind = "allocator"
path = "sub/drf"
on = "master"

[plugin.scheduler]
kind = "framework"
module = "x.wasm"

[plugin.boxes]
kind = "containerizer"
on = "agent"
images = ["docker", "oci"]
runner = "run"

[plugin.page]
kind = "service"
home = true
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{
		{"zebra", Framework, OnMaster, nil, "", "framework-zebra", nil, "127.0.0.1:8080", false, []byte(`{"nested":{"deep":[1,2.5]},"role":"*"}`), 64, 2},
		{"drf", Allocator, OnMaster, nil, "", "sub/drf", nil, "", false, []byte("{}"), DefaultMemoryMB, 10},
		{"boxes", Containerizer, OnAgent, []string{"docker", "oci"}, "run", "containerizer-boxes", nil, "", false, []byte("{}"), DefaultMemoryMB, 19},
		{"page", Service, OnMaster, nil, "", "service-page", nil, "", true, []byte("{}"), DefaultMemoryMB, 25},
	}
	if len(m.Plugins) != len(want) {
		t.Fatalf("%+v", m.Plugins)
	}
	for i, e := range m.Plugins {
		w := want[i]
		if e.Name != w.Name || e.Kind != w.Kind || e.Path != w.Path || e.Module != w.Module || e.Listen != w.Listen || e.Home != w.Home ||
			string(e.Config) != string(w.Config) || e.On != w.On || !slices.Equal(e.Images, w.Images) || e.Runner != w.Runner || e.MemoryMB != w.MemoryMB || e.Line != w.Line {
			t.Errorf("got  %+v (%s)\nwant %+v (%s)", e, e.Config, w, w.Config)
		}
	}
	if on := m.On(OnAgent); len(on.Plugins) != 1 || on.Plugins[0].Name != "boxes" || on.Problems != nil {
		t.Errorf("on agents: %+v", on)
	}
	if on := m.On(OnMaster); len(on.Plugins) != 3 || len(on.Problems) != 1 {
		t.Errorf("on the master: %+v", on)
	}
	for i, want := range []string{
		"plugins.toml:15: running without scheduler: modules of kind framework are not supported yet; only allocators are",
	} {
		if len(m.Problems) != 1 || m.Problems[i].String() != want {
			t.Errorf("problems: %v", m.Problems)
		}
	}
}

func TestManifestOfAModule(t *testing.T) {
	m, err := parse("f", []byte("[plugin.firstfit]\nkind = \"allocator\"\nmodule = \"firstfit.wasm\""))
	if err != nil {
		t.Fatal(err)
	}
	e := m.Plugins[0]
	if e.Path != "host-wasm" || *e.Module != (Module{"firstfit.wasm", DefaultModuleMemoryMB, DefaultModuleDeadlineMillis}) {
		t.Errorf("%+v %+v", e, e.Module)
	}
	m, err = parse("f", []byte(`[plugin.firstfit]
kind = "allocator"
module = "/srv/firstfit.wasm"
module_memory_mb = 8
module_deadline_ms = 100
memory_mb = 256
`))
	if err != nil {
		t.Fatal(err)
	}
	if e := m.Plugins[0]; *e.Module != (Module{"/srv/firstfit.wasm", 8, 100}) || e.MemoryMB != 256 {
		t.Errorf("%+v %+v", e, e.Module)
	}
}

func TestManifestErrors(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"no toml", "[plugin.drf]\nkind = \n", "f:2: not TOML: "},
		{"twice", "[plugin.a]\n[plugin.a]\n", "f:2: not TOML: "},
		{"top key", "\ncolour = 1\n", `f:2: unknown key "colour"; plugins are tables named [plugin.NAME]`},
		{"top table", "[plugins.drf]\nkind = \"allocator\"\n", `unknown key "plugins"`},
		{"no table", "plugin = 1", "f:1: plugin is not a table"},
		{"plugin is text", "[plugin]\ndrf = \"x\"", "f:2: plugin.drf is not a table"},
		{"key", "[plugin.drf]\nkind = \"allocator\"\ncolor = 1", `f:3: unknown key "color" of plugin drf; there are kind, `},
		{"case matters", "[plugin.drf]\nKind = \"allocator\"", `f:2: unknown key "Kind"`},
		{"kind", "\n\n[plugin.drf]\nkind = \"oracle\"", `f:3: unknown kind "oracle" of plugin drf`},
		{"no kind", "[plugin.drf]\n", "f:1: plugin drf does not say its kind"},
		{"only config", "[plugin.drf.config]\na = 1\n", "f:1: plugin drf does not say its kind"},
		{"name", "[plugin.Drf]\nkind = \"allocator\"", `f:1: plugin name "Drf": use a-z`},
		{"long name", "[plugin." + strings.Repeat("a", 33) + "]\nkind = \"allocator\"", "f:1: plugin name"},
		{"type", "[plugin.drf]\nkind = 7", "f:2: kind of plugin drf is not text in quotes"},
		{"memory", "[plugin.drf]\nkind = \"allocator\"\nmemory_mb = \"1\"", "f:3: memory_mb of plugin drf is not a whole number"},
		{"little memory", "[plugin.drf]\nkind = \"allocator\"\nmemory_mb = 1", "needs at least 16"},
		{"config", "[plugin.drf]\nkind = \"allocator\"\nconfig = 1", "f:3: config of plugin drf is not a table"},
		{"config value", "[plugin.drf]\nkind = \"allocator\"\nconfig = { x = nan }", "f:3: config of plugin drf"},
		{"two allocators", "[plugin.a]\nkind = \"allocator\"\n[plugin.b]\nkind = \"allocator\"", "f:3: plugin b is a second allocator beside a (line 1)"},
		{"beyond loopback", "[plugin.m]\nkind = \"framework\"\nlisten = \"0.0.0.0:8080\"", `f:1: listen = "0.0.0.0:8080" of plugin m reaches beyond this machine`},
		{"no port", "[plugin.m]\nkind = \"framework\"\nlisten = \"127.0.0.1\"", "is not HOST:PORT"},
		{"bad port", "[plugin.m]\nkind = \"framework\"\nlisten = \"127.0.0.1:http\"", "the port is a number"},
		{"same port", "[plugin.m]\nkind = \"framework\"\nlisten = \"127.0.0.1:1\"\n[plugin.n]\nkind = \"framework\"\nlisten = \"127.0.0.1:1\"", "f:4: plugin n listens on 127.0.0.1:1, as m does (line 1)"},
		{"allocator listens", "[plugin.a]\nkind = \"allocator\"\nlisten = \"127.0.0.1:1\"", "serve no HTTP"},
		{"home of a framework", "[plugin.m]\nkind = \"framework\"\nhome = true", "f:1: plugin m has home, but only a service"},
		{"two homes", "[plugin.a]\nkind = \"service\"\nhome = true\n[plugin.b]\nkind = \"service\"\nhome = true", "f:4: plugin b wants to be home, as a does (line 1)"},
		{"home is text", "[plugin.a]\nkind = \"service\"\nhome = \"yes\"", "f:3: home of plugin a is not true or false"},
		{"agent", "[plugin.a]\nkind = \"allocator\"\non = \"agent\"", "f:1: plugin a is to run on = \"agent\", but plugins of kind allocator run on the master; write on = \"master\""},
		{"images of an allocator", "[plugin.a]\nkind = \"allocator\"\nimages = [\"docker\"]", "f:1: plugin a has images, but plugins of kind allocator prepare none"},
		{"runner of an allocator", "[plugin.a]\nkind = \"allocator\"\nrunner = \"x\"", "f:1: plugin a has a runner, but plugins of kind allocator have no containers"},
		{"runner elsewhere", "[plugin.a]\nkind = \"containerizer\"\nimages = [\"x\"]\nrunner = \"../x\"", "f:1: runner \"../x\" of plugin a leaves the folder of plugins"},
		{"no images", "[plugin.a]\nkind = \"containerizer\"", "f:1: plugin a does not say which images it prepares"},
		{"images are a text", "[plugin.a]\nkind = \"containerizer\"\nimages = \"docker\"", "f:3: images of plugin a is not a list of texts in quotes"},
		{"kind of image", "[plugin.a]\nkind = \"containerizer\"\nimages = [\"a b\"]", "f:1: kind of images \"a b\" of plugin a: use a-z"},
		{"image twice", "[plugin.a]\nkind = \"containerizer\"\nimages = [\"x\", \"x\"]", "f:1: plugin a names images of kind \"x\" twice"},
		{"image of two", "[plugin.a]\nkind = \"containerizer\"\nimages = [\"x\"]\n[plugin.b]\nkind = \"containerizer\"\nimages = [\"y\", \"x\"]", "f:4: plugin b prepares images of kind \"x\", as a does (line 1)"},
		{"containerizer on master", "[plugin.a]\nkind = \"containerizer\"\non = \"master\"\nimages = [\"x\"]", "run on the agent; write on = \"agent\""},
		{"containerizer listens", "[plugin.a]\nkind = \"containerizer\"\nimages = [\"x\"]\nlisten = \"127.0.0.1:1\"", "serve no HTTP"},
		{"on", "[plugin.a]\nkind = \"allocator\"\non = \"moon\"", `on = "moon" of plugin a`},
		{"path", "[plugin.a]\nkind = \"allocator\"\npath = \"../x\"", "leaves the folder of plugins"},
		{"path and module", "[plugin.a]\nkind = \"allocator\"\nmodule = \"x\"\npath = \"y\"", "f:4: plugin a has a path and a module: a module runs in host-wasm; drop path"},
		{"module is a number", "[plugin.a]\nkind = \"allocator\"\nmodule = 1", "f:3: module of plugin a is not text in quotes"},
		{"no module's name", "[plugin.a]\nkind = \"allocator\"\nmodule = \"\"", "f:3: module of plugin a is empty"},
		{"module elsewhere", "[plugin.a]\nkind = \"allocator\"\nmodule = \"../x.wasm\"", "f:3: module \"../x.wasm\" of plugin a leaves the folder of plugins"},
		{"limits of no module", "[plugin.a]\nkind = \"allocator\"\nmodule_memory_mb = 1", "f:3: module_memory_mb of plugin a: there is no module"},
		{"little module memory", "[plugin.a]\nkind = \"allocator\"\nmodule = \"x\"\nmodule_memory_mb = 0", "f:4: module_memory_mb = 0 of plugin a: a module has 1 to 4096"},
		{"module memory", "[plugin.a]\nkind = \"allocator\"\nmodule = \"x\"\nmodule_memory_mb = \"1\"", "f:4: module_memory_mb of plugin a is not a whole number"},
		{"long deadline", "[plugin.a]\nkind = \"allocator\"\nmodule = \"x\"\nmodule_deadline_ms = 60001", "f:4: module_deadline_ms = 60001 of plugin a: a module has 1 to 60000"},
		{"module larger than plugin", "[plugin.a]\nkind = \"allocator\"\nmodule = \"x\"\nmodule_memory_mb = 1000", "f:1: memory_mb = 1024 of plugin a: host-wasm needs 64 MB beside the module's 1000"},
		{"large", strings.Repeat("#", maxManifestBytes+1), "f:1: the file has more than"},
		{"deep", "a=" + strings.Repeat("[", 9000), "f:1: the file has more than 1000 opening brackets"},
		{"dotted", "\n" + strings.Repeat("a.", 9000) + "a=1", "f:2: the line has more than 16 dots"},
		{"braces", "\n" + strings.Repeat("a={", 33), "f:2: too much is in braces"},
		{"braces and dots", strings.Repeat(strings.Repeat("a.", 16)+"a={\n", 5), "f:5: too much is in braces"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parse("f", []byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v\nwant %s", err, test.want)
			}
		})
	}
}

// The slowest file that the bounds let through: as deep as may be, with as many keys as
// fit at the bottom. That it is done at all is the test: without the bounds' product the
// like of it took minutes.
func TestTheWorstManifestIsRead(t *testing.T) {
	var text strings.Builder
	for range maxBraces {
		text.WriteString(strings.Repeat("a.", maxBraceDots/maxBraces) + "a={\n")
	}
	key := strings.Repeat("a.", maxLineDots) + "k"
	for i := 0; text.Len() < maxManifestBytes-100; i++ {
		fmt.Fprintf(&text, "%s%d=1,\n", key, i)
	}
	text.WriteString(strings.Repeat("}", maxBraces))
	_, err := parse("f", []byte(text.String()))
	if err == nil || !strings.Contains(err.Error(), `unknown key "a"`) {
		t.Fatal(err)
	}
}

// The manifest that Gantry comes with.
func TestOurManifest(t *testing.T) {
	m, err := Load("../../plugins.toml")
	if err != nil || len(m.Plugins) == 0 || len(m.Problems) > 0 {
		t.Fatal(m, err)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none")); !os.IsNotExist(unwrapped(err)) {
		t.Fatal(err)
	}
}

func unwrapped(err error) error {
	for {
		inner, ok := err.(interface{ Unwrap() error })
		if !ok || os.IsNotExist(err) {
			return err
		}
		err = inner.Unwrap()
	}
}

func FuzzManifest(f *testing.F) {
	f.Add("[plugin.a]\nkind = \"allocator\"\n[plugin.a.config]\nx = 1")
	f.Add("plugin = { a = { kind = \"framework\", listen = \"127.0.0.1:1\" } }")
	f.Add("[[plugin]]\n[[plugin.a]]\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parse("f", []byte(text))
		if err != nil && !strings.HasPrefix(err.Error(), "f:") {
			t.Fatalf("an error without a place: %v", err)
		}
		for _, e := range m.Plugins {
			if !goodName.MatchString(e.Name) || len(e.Config) == 0 {
				t.Fatalf("%+v", e)
			}
		}
	})
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                    "plain",
		"a\tb\x00\x1b[31mc\x7f":    "a b[31mc",
		"two\rlines":               "twolines",
		"\xff\xfe":                 "??",
		"right \u202eto left":      "right to left",
		"\u2028 separators\u2029 ": "separators",
	} {
		if got := clean([]byte(in)); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}
