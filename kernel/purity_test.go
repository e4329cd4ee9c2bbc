package kernel_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pure lists the packages that must be functions of what they are given: the same events give the same effects, in
// production, in simulation and in the replay of a trace.
var pure = []string{
	"kernel/core", "kernel/core/asked", "kernel/core/hello", "kernel/core/registry", "kernel/node", "kernel/ledger", "kernel/lifecycle", "kernel/rules", "kernel/id", "kernel/step",
	"plugins/framework/marathon/apps",
	"plugins/framework/marathon/definition",
	"plugins/framework/chronos/jobs",
	"plugins/framework/chronos/definition",
	"plugins/framework/chronos/schedule",
	"plugins/framework/internal/machine",
	"plugins/framework/internal/offer",
	"plugins/allocator/*/policy",
}

// impure packages bring the outside in: randomness, the system, other goroutines, cancellation, output.
var impure = []string{
	"context", "crypto/rand", "log", "log/slog", "math/rand", "math/rand/v2", "net", "net/http", "os", "os/exec",
	"os/signal", "path/filepath", "sync", "sync/atomic", "syscall", "unsafe", "time/tzdata", "testing",
}

// clocks are the functions of package time that read or wait for it; its types and arithmetic are welcome.
var clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer"}

// anyOrder marks a range over a map where the order can't matter, with the reason behind it.
const anyOrder = "// any order"

func TestPurePackagesArePure(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the go command to build what the packages import")
	}
	var dirs []string
	for _, pattern := range pure {
		found, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(pattern)))
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, found...)
	}
	if len(dirs) == 0 {
		t.Fatal("there is no pure package to look at")
	}
	exported := exports(t, dirs)
	for _, dir := range dirs {
		for _, complaint := range impurities(t, dir, exported) {
			t.Error(complaint)
		}
	}
}

// The checker finds what it is there to find.
func TestImpurityIsFound(t *testing.T) {
	dir := filepath.Join("testdata", "impure")
	got := strings.Join(impurities(t, dir, exports(t, []string{"./" + dir})), "\n")
	for _, want := range []string{
		"imports os", "calls time.Now", "starts a goroutine", "uses a channel", "selects", "a range over a map", "maps.Values",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("not found: %s, only\n%s", want, got)
		}
	}
	if n := strings.Count(got, "has no order"); n != 2 {
		t.Errorf("%d places without order were found, want those two that are neither sorted nor excused:\n%s", n, got)
	}
}

// exports returns, by import path, the files that the compiler exported of everything the folders import.
func exports(t *testing.T, dirs []string) map[string]string {
	t.Helper()
	args := append([]string{"list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}"}, dirs...)
	cmd := exec.Command("go", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list -export: %v", err)
	}
	files := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		if name, file, found := strings.Cut(lines.Text(), " "); found {
			files[name] = file
		}
	}
	return files
}

// impurities type-checks one package and says what is wrong with it.
func impurities(t *testing.T, dir string, exported map[string]string) []string {
	t.Helper()
	fset := token.NewFileSet()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	if len(files) == 0 {
		return nil
	}
	lookup := func(name string) (io.ReadCloser, error) {
		if exported[name] == "" {
			return nil, errors.New("nothing exported of " + name)
		}
		return os.Open(exported[name])
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", lookup)}
	if _, err := config.Check(dir, fset, files, info); err != nil {
		t.Fatalf("type-check %s: %v", dir, err)
	}
	j := judge{fset: fset, info: info}
	for _, file := range files {
		j.look(file)
	}
	return j.complaints
}

// judge collects what a pure package must not do.
type judge struct {
	fset       *token.FileSet
	info       *types.Info
	excused    []int      // lines of the file that carry anyOrder and a reason
	sorted     []ast.Expr // iterators over maps that are sorted at once
	complaints []string
}

func (j *judge) complain(at ast.Node, format string, args ...any) {
	j.complaints = append(j.complaints, fmt.Sprintf("%s %s", j.fset.Position(at.Pos()), fmt.Sprintf(format, args...)))
}

func (j *judge) look(file *ast.File) {
	j.excused = nil
	for _, group := range file.Comments {
		for _, c := range group.List {
			if reason, found := strings.CutPrefix(c.Text, anyOrder); found && len(reason) > 2 {
				j.excused = append(j.excused, j.fset.Position(c.Pos()).Line)
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool { j.node(n); return true })
}

func (j *judge) node(n ast.Node) {
	switch n := n.(type) {
	case *ast.ImportSpec:
		if name := strings.Trim(n.Path.Value, `"`); slices.Contains(impure, name) {
			j.complain(n, "imports %s", name)
		}
	case *ast.CallExpr:
		j.call(n)
	case *ast.GoStmt:
		j.complain(n, "starts a goroutine")
	case *ast.SelectStmt:
		j.complain(n, "selects")
	case *ast.ChanType, *ast.SendStmt:
		j.complain(n, "uses a channel")
	case *ast.RangeStmt:
		j.rangeOver(n)
	}
}

// call looks at calls of functions that are no methods.
func (j *judge) call(n *ast.CallExpr) {
	selector, ok := n.Fun.(*ast.SelectorExpr)
	if !ok {
		return
	}
	f, ok := j.info.Uses[selector.Sel].(*types.Func)
	if !ok || f.Signature().Recv() != nil {
		return
	}
	switch name := f.Name(); f.Pkg().Path() {
	case "time":
		if slices.Contains(clocks, name) {
			j.complain(n, "calls time.%s: time comes in with the step", name)
		}
	case "slices":
		if strings.HasPrefix(name, "Sorted") {
			j.sorted = append(j.sorted, n.Args[0])
		}
	case "maps":
		if slices.Contains([]string{"Keys", "Values", "All"}, name) && !slices.Contains(j.sorted, ast.Expr(n)) {
			j.disorder(n, "maps."+name)
		}
	}
}

// disorder complains unless the line says why the order can't matter.
func (j *judge) disorder(n ast.Node, what string) {
	if line := j.fset.Position(n.Pos()).Line; !slices.Contains(j.excused, line) {
		j.complain(n, "%s has no order: sort the keys, or write `%s: REASON` on the line", what, anyOrder)
	}
}

func (j *judge) rangeOver(n *ast.RangeStmt) {
	if _, ok := j.info.TypeOf(n.X).Underlying().(*types.Map); ok {
		j.disorder(n, "a range over a map")
	}
}
