package compat

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	agentpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/agent"
	executorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/executor"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

func read(t *testing.T) []Row {
	t.Helper()
	rows, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// Every value of the wire's enums has a row, and no other.
func TestTableIsWhole(t *testing.T) {
	items := map[string][]string{}
	for _, row := range read(t) {
		items[row.Surface] = append(items[row.Surface], row.Item)
	}
	for surface, enum := range map[string]protoreflect.EnumDescriptor{
		"scheduler call":       schedulerpb.Call_UNKNOWN.Descriptor(),
		"scheduler event":      schedulerpb.Event_UNKNOWN.Descriptor(),
		"executor call":        executorpb.Call_UNKNOWN.Descriptor(),
		"executor event":       executorpb.Event_UNKNOWN.Descriptor(),
		"master call":          masterpb.Call_UNKNOWN.Descriptor(),
		"master event":         masterpb.Event_UNKNOWN.Descriptor(),
		"agent call":           agentpb.Call_UNKNOWN.Descriptor(),
		"offer operation":      mesos.Offer_Operation_UNKNOWN.Descriptor(),
		"operation state":      mesos.OperationState_OPERATION_UNSUPPORTED.Descriptor(),
		"task state":           mesos.TaskState_TASK_STAGING.Descriptor(),
		"task source":          mesos.TaskStatus_SOURCE_MASTER.Descriptor(),
		"task reason":          mesos.TaskStatus_REASON_RECONCILIATION.Descriptor(),
		"framework capability": mesos.FrameworkInfo_Capability_UNKNOWN.Descriptor(),
		"agent capability":     mesos.AgentInfo_Capability_UNKNOWN.Descriptor(),
		"master capability":    mesos.MasterInfo_Capability_UNKNOWN.Descriptor(),
	} {
		var want []string
		for i := range enum.Values().Len() {
			want = append(want, string(enum.Values().Get(i).Name()))
		}
		got := items[surface]
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the table has\n%q, and the wire\n%q", surface, got, want)
		}
	}
}

// Whoever claims something names tests that there are. Whether they passed is only known once they ran: see TestClaims.
func TestClaimedTestsExist(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", "..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]map[string]bool{} // by folder
	for _, row := range read(t) {
		for _, claim := range row.Tests {
			folder, name, _ := strings.Cut(claim, ".")
			if known[folder] == nil {
				known[folder] = testsOf(t, filepath.Join(root, filepath.FromSlash(folder)))
			}
			if name, _, _ = strings.Cut(name, "/"); !known[folder][name] {
				t.Errorf("%s %s: there is no %s in %s", row.Surface, row.Item, name, folder)
			}
		}
	}
}

// testsOf returns the names of a folder's test functions.
func testsOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := fs.Glob(os.DirFS(dir), "*_test.go")
	if err != nil || len(files) == 0 {
		t.Errorf("no tests in %s: %v", dir, err)
	}
	names := map[string]bool{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, file), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && (strings.HasPrefix(f.Name.Name, "Test") || strings.HasPrefix(f.Name.Name, "Fuzz")) {
				names[f.Name.Name] = true
			}
		}
	}
	return names
}

// The last step of `make test`: $GANTRY_TEST_RESULTS names the files, as $PATH does folders, with what every test came to.
func TestClaims(t *testing.T) {
	files := filepath.SplitList(os.Getenv("GANTRY_TEST_RESULTS"))
	if len(files) == 0 {
		t.Skip("no $GANTRY_TEST_RESULTS: make test has them")
	}
	results := Results{}
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		err = results.Add(file)
		file.Close()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for _, sentence := range results.Check(read(t)) {
		t.Error(sentence)
	}
}

func TestResults(t *testing.T) {
	results := Results{}
	for _, run := range []string{`
		{"Action":"start","Package":"github.com/gantry-project/gantry/kernel/api"}
		{"Action":"pass","Package":"github.com/gantry-project/gantry/kernel/api","Test":"TestGood/sub_case"}
		{"Action":"pass","Package":"github.com/gantry-project/gantry/kernel/api","Test":"TestGood"}
		{"Action":"skip","Package":"github.com/gantry-project/gantry/kernel/api","Test":"TestSkipped"}
		{"Action":"fail","Package":"github.com/gantry-project/gantry/kernel/api","Test":"TestFlaky"}
		{"Action":"fail","Package":"github.com/gantry-project/gantry/kernel/api"}`, `
		{"Action":"output","Package":"github.com/gantry-project/gantry/kernel/api","Test":"TestFlaky","Output":"--- PASS"}
		{"Action":"pass","Package":"github.com/gantry-project/gantry/kernel/api","Test":"TestFlaky"}`} {
		if err := results.Add(strings.NewReader(run)); err != nil {
			t.Fatal(err)
		}
	}
	got := results.Check([]Row{
		{"call", "GOOD", Yes, []string{"kernel/api.TestGood", "kernel/api.TestGood/sub_case"}, ""},
		{"call", "SKIPPED", Part, []string{"kernel/api.TestSkipped"}, "half"},
		{"call", "FLAKY", Yes, []string{"kernel/api.TestGood", "kernel/api.TestFlaky"}, ""},
		{"call", "MISSING", Yes, []string{"kernel/api.TestMissing"}, ""},
		{"call", "LATER", NotYet, nil, ""},
	})
	want := []string{
		`call SKIPPED claims "part", and kernel/api.TestSkipped was skipped`,
		`call FLAKY claims "yes", and kernel/api.TestFlaky failed`,
		`call MISSING claims "yes", and kernel/api.TestMissing did not run`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := results.Add(strings.NewReader("ok  \tkernel/api\n")); err == nil {
		t.Error("text was read as results")
	}
}

func TestBadTables(t *testing.T) {
	for name, c := range map[string]struct{ lines, want string }{
		"no heading":            {"a\tb\tyes\tx.T\t", "line 1: want"},
		"too few cells":         {heading + "\na\tb\tyes", "line 2: 3 cells"},
		"no item":               {heading + "\na\t\tyes\tx.T\t", "without surface or item"},
		"an unknown status":     {heading + "\na\tb\tmaybe\t\t", `"maybe" is no status`},
		"a claim without test":  {heading + "\na\tb\tyes\t\t", "names no test"},
		"a test without claim":  {heading + "\na\tb\tnot yet\tx.T\t", "claims nothing"},
		"a part of what":        {heading + "\na\tb\tpart\tx.T\t", "a note has to say"},
		"refused without why":   {heading + "\na\tb\trefused\t\t", "a note has to say"},
		"the same again":        {heading + "\na\tb\tnot yet\t\t\na\tb\tyes\tx.T\t", "line 3: a b is there twice"},
		"an empty line between": {heading + "\n\na\tb\tnot yet\t\t", "line 2: 1 cells"},
	} {
		if _, err := parse(c.lines); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
