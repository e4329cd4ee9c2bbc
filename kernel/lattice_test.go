package kernel_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/gantry-project/gantry/"

// rule says which packages of this module one package, or a whole tree of them, may import. A path that ends in
// /... is that package and everything below it.
type rule struct {
	packages string
	imports  []string
	reason   string
}

// lattice is how imports point: to the packages that a rule names, and so one way. The first rule that fits a
// package is its rule, and every package has one. To get a build through, change the code, not this table; a change of the
// table is a change of the design and needs its reason here.
var lattice = []rule{
	{"kernel/id", nil,
		"ids are everyone's words, so they know no one"},
	{"kernel/step", nil,
		"time and writes as the machines see them are shared by both and know neither"},
	{"kernel/failpoint", nil,
		"whoever writes what must be durable marks where a test may kill it, the keeper too"},
	{"kernel/lifecycle", []string{"kernel/id", "sdk/proto/..."},
		"the state tables are a leaf: whoever asks whether a step is legal gets one answer"},
	{"kernel/ledger", []string{"kernel/id", "sdk/proto/..."},
		"arithmetic on resources must be right by itself, whatever the machines do"},
	{"kernel/rules", []string{"kernel/id", "kernel/ledger", "kernel/lifecycle", "sdk/proto/..."},
		"validation judges a request by the ledger's and the state tables' words, and changes nothing"},
	{"kernel/core/...", []string{"kernel/core/...", "kernel/link/linkpb", "kernel/id", "kernel/step", "kernel/ledger", "kernel/lifecycle", "kernel/rules", "sdk/proto/..."},
		"the master machine decides alone: no clock, network, disk or plugin can be reached from it; the link's messages are plain data"},
	{"kernel/node/...", []string{"kernel/node/...", "kernel/link/linkpb", "kernel/id", "kernel/step", "kernel/ledger", "kernel/lifecycle", "kernel/rules", "sdk/proto/..."},
		"the agent machine decides alone, for the same reason"},
	{"kernel/link/...", []string{"kernel/link/...", "kernel/auth", "kernel/id", "sdk/proto/..."},
		"the wire between master and agent carries what it is given; run joins it to a machine"},
	{"kernel/store/...", []string{"kernel/store/...", "kernel/step", "kernel/failpoint"},
		"a store keeps keys and values and knows no meaning of theirs"},
	{"kernel/auth", []string{"kernel/id", "sdk/proto/..."},
		"who may do what is asked by the edges; it asks nobody"},
	{"kernel/host/...", []string{"kernel/host/...", "kernel/auth", "isolators/cgroup", "sdk/..."},
		"the plugin host runs processes, each in a cgroup of its own, and carries the contracts; what is said over them is run's business"},
	{"kernel/api/...", []string{"kernel/api/...", "kernel/auth", "kernel/id", "kernel/rules", "sdk/..."},
		"the HTTP surface declares what it needs of a master or agent, so that it can be tested with neither; what a request must be like is in the rules"},
	{"kernel/keeper/...", []string{"kernel/keeper/...", "kernel/failpoint", "sdk/proto/..."},
		"the keeper's protocol is linked into the smallest binary: it drags nothing in"},
	{"kernel/run/...", []string{"kernel/...", "sdk/..."},
		"the shells own the machines, and are where the kernel's parts meet"},
	{"kernel/sim/...", []string{"kernel/...", "sdk/..."},
		"the simulator drives the machines as run does"},
	{"kernel/coretest/...", []string{"kernel/...", "sdk/..."},
		"scripted tests drive the machines as run does"},
	{"sdk/...", []string{"sdk/..."},
		"authors of plugins get the SDK and nothing of the product with it"},
	{"isolators/...", []string{"isolators/...", "sdk/..."},
		"an isolator acts on the host for whoever asks; it decides nothing, so it needs nothing of the kernel"},
	{"plugins/framework/marathon/definition", nil,
		"what clients may say about an app is judged by itself"},
	{"plugins/framework/marathon/apps", []string{"plugins/framework/marathon/definition", "plugins/framework/internal/machine", "plugins/framework/internal/offer", "sdk/proto/..."},
		"the rules of applications are pure: they know messages, not connections"},
	{"plugins/framework/marathon/...", []string{"plugins/framework/marathon/...", "plugins/framework/internal/...", "sdk/..."},
		"a plugin's own packages, what schedulers share, and the SDK"},
	{"plugins/framework/internal/machine", []string{"sdk/proto/..."},
		"what schedulers and their shell say to each other is messages"},
	{"plugins/framework/internal/offer", []string{"sdk/proto/..."},
		"cutting tasks from offers is arithmetic on messages"},
	{"plugins/framework/internal/shell", []string{"plugins/framework/internal/machine", "sdk/..."},
		"the shell around a scheduler knows any machine, and none by name"},
	{"plugins/framework/chronos/schedule", nil,
		"when a job is due is a function of what was written"},
	{"plugins/framework/chronos/definition", nil,
		"what clients may say about a job is judged by itself"},
	{"plugins/framework/chronos/jobs", []string{"plugins/framework/chronos/definition", "plugins/framework/chronos/schedule",
		"plugins/framework/internal/machine", "plugins/framework/internal/offer", "sdk/proto/..."},
		"the rules of jobs are pure: they know messages, not connections"},
	{"plugins/framework/chronos/...", []string{"plugins/framework/chronos/...", "plugins/framework/internal/...", "sdk/..."},
		"a plugin's own packages, what schedulers share, and the SDK"},
	{"plugins/allocator/drf/...", []string{"plugins/allocator/drf/...", "sdk/..."},
		"a plugin's own packages, and the SDK"},
	{"plugins/containerizer/oci/source", nil,
		"what an image is, is read by itself: no contract is needed for that"},
	{"plugins/containerizer/oci/layers", []string{"plugins/containerizer/oci/source"},
		"the store takes layers as their sources open them"},
	{"plugins/containerizer/oci/program", []string{"sdk/proto/..."},
		"what runs follows from two messages and an image's lists of users"},
	{"plugins/containerizer/oci", []string{"plugins/containerizer/oci/...", "sdk/..."},
		"a plugin's own packages, and the SDK"},
	{"plugins/...", []string{"sdk/..."},
		"a plugin could live in another repository: if ours need more than the SDK, so does everyone's"},
	{"examples/...", []string{"sdk/..."},
		"an example shows what an outsider can do"},
	{"cmd/gantry/internal/cli", []string{"cmd/gantry/internal/client", "cmd/gantry/internal/daemon", "cmd/gantry/internal/version", "sdk/..."},
		"the command line knows a cluster by its HTTP addresses only"},
	{"cmd/gantry/internal/client", []string{"sdk/..."},
		"a client of the wire needs the wire"},
	{"cmd/gantry/internal/up", []string{"cmd/gantry/internal/client", "cmd/gantry/internal/daemon"},
		"the supervisor knows processes and addresses; what it removes at the end it is handed"},
	{"cmd/gantry/internal/version", nil,
		"every part of the command tells the same version"},
	{"cmd/gantry/internal/daemon", nil,
		"the contract between the supervisor and what it supervises belongs to neither"},
	{"cmd/gantry/e2e", []string{"cmd/gantry/internal/daemon", "cmd/gantry/internal/client", "isolators/cgroup"},
		"tests of the built binary look at it from outside"},
	{"cmd/gantry-keeper/...", []string{"cmd/gantry-keeper/...", "kernel/keeper/...", "isolators/...", "sdk/proto/..."},
		"the keeper parents containers and must stay small enough to start in milliseconds"},
	{"cmd/...", []string{"cmd/...", "kernel/...", "isolators/...", "sdk/..."},
		"concrete things meet in cmd, and only there"},
}

// machines may be imported only where they are driven: everyone else would go around the owner of the state.
var machines = rule{
	"kernel/run/... kernel/sim/... kernel/coretest/... cmd/gantry/internal/masterd cmd/gantry/internal/agentd",
	[]string{"kernel/core", "kernel/node"},
	"the machines have one owner goroutine each, in run; the daemons only say how they are configured"}

func TestImportsPointOneWay(t *testing.T) {
	used := map[string]bool{}
	for pkg, imports := range packages(t) {
		r, found := ruleOf(pkg)
		if !found {
			t.Errorf("%s: no rule of the lattice fits it", pkg)
			continue
		}
		used[r.packages] = true
		for _, imported := range imports {
			if !slices.ContainsFunc(r.imports, func(pattern string) bool { return fits(pattern, imported) }) {
				t.Errorf("%s must not import %s: %s (%s)", pkg, imported, r.reason, r.packages)
			}
			if isMachine(imported) && !drives(pkg) {
				t.Errorf("%s must not import %s: %s", pkg, imported, machines.reason)
			}
		}
	}
	if len(used) == 0 {
		t.Fatal("no package was looked at")
	}
}

func isMachine(pkg string) bool { return slices.Contains(machines.imports, pkg) }

func drives(pkg string) bool {
	return slices.ContainsFunc(strings.Fields(machines.packages), func(pattern string) bool { return fits(pattern, pkg) })
}

func ruleOf(pkg string) (rule, bool) {
	for _, r := range lattice {
		if fits(r.packages, pkg) {
			return r, true
		}
	}
	return rule{}, false
}

// fits reports whether a package is what the pattern names.
func fits(pattern, pkg string) bool {
	if tree, found := strings.CutSuffix(pattern, "/..."); found {
		return pkg == tree || strings.HasPrefix(pkg, tree+"/")
	}
	return pkg == pattern
}

// packages returns the imports of every package of this module, paths without the module's; tests may import what they
// like and are left out.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, file := range sources(t, "kernel", "plugins", "sdk", "isolators", "cmd", "examples") {
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", file), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		pkg := path.Dir(file)
		found[pkg] = append(found[pkg], nil...)
		for _, spec := range parsed.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if own, ok := strings.CutPrefix(name, module); ok && !slices.Contains(found[pkg], own) {
				found[pkg] = append(found[pkg], own)
			}
		}
	}
	return found
}

// sources returns the Go files below the folders, but tests and what lies in modules of their own; paths begin at the
// top of the repository.
func sources(t *testing.T, folders ...string) []string {
	t.Helper()
	var files []string
	for _, folder := range folders {
		top := filepath.Join("..", folder)
		if _, err := os.Stat(top); os.IsNotExist(err) {
			continue
		}
		err := filepath.WalkDir(top, func(name string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() {
				if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil || entry.Name() == "testdata" {
					return fs.SkipDir
				}
				return nil
			}
			if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
				files = append(files, filepath.ToSlash(strings.TrimPrefix(name, ".."+string(filepath.Separator))))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}
