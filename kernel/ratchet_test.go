package kernel_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"testing"
)

// The sizes that nothing may exceed: what a reader holds in mind at once. They are watched at the tail, for the
// average says nothing.
const (
	maxFunctionLines = 70 // a switch whose every arm is one call may be longer
	maxFileLines     = 800
	maxPackageLines  = 3000
	maxMethods       = 5 // of an interface
	maxParameters    = 5
)

// exceptions may exceed a size, each with its reason. The key is PATH for files, PACKAGE for packages, and PACKAGE.NAME
// for functions and interfaces. An exception that is not needed any more is an error.
var exceptions = map[string]string{}

func TestSizesStayBounded(t *testing.T) {
	r := ratchet{t: t, needed: map[string]bool{}, packageLines: map[string]int{}}
	for _, file := range sources(t, "kernel", "plugins", "sdk", "isolators", "cmd", "examples") {
		r.file(file)
	}
	for pkg, lines := range r.packageLines {
		r.limit(pkg, "lines", lines, maxPackageLines)
	}
	for key, reason := range exceptions {
		if !r.needed[key] {
			t.Errorf("the exception for %s (%s) is not needed any more", key, reason)
		}
	}
}

type ratchet struct {
	t            *testing.T
	needed       map[string]bool
	packageLines map[string]int
}

// limit complains where a size is exceeded and no exception allows it.
func (r *ratchet) limit(key, unit string, size, most int) {
	if size <= most {
		return
	}
	r.needed[key] = true
	if _, allowed := exceptions[key]; !allowed {
		r.t.Errorf("%s has %d %s, more than %d", key, size, unit, most)
	}
}

func (r *ratchet) file(name string) {
	text, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		r.t.Fatal(err)
	}
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		r.t.Fatal(err)
	}
	if ast.IsGenerated(parsed) {
		return
	}
	pkg, lines := path.Dir(name), bytes.Count(text, []byte("\n"))
	r.packageLines[pkg] += lines
	r.limit(name, "lines", lines, maxFileLines)
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			r.function(pkg, fset, n)
		case *ast.TypeSpec:
			if face, ok := n.Type.(*ast.InterfaceType); ok {
				r.limit(pkg+"."+n.Name.Name, "methods", face.Methods.NumFields(), maxMethods)
			}
		}
		return true
	})
}

func (r *ratchet) function(pkg string, fset *token.FileSet, f *ast.FuncDecl) {
	key := pkg + "." + f.Name.Name
	r.limit(key, "parameters", f.Type.Params.NumFields(), maxParameters)
	if f.Body == nil || dispatches(f.Body) {
		return
	}
	r.limit(key, "lines", fset.Position(f.End()).Line-fset.Position(f.Pos()).Line+1, maxFunctionLines)
}

// dispatches reports whether a body is a switch, with little around it, whose every arm is one statement.
func dispatches(body *ast.BlockStmt) bool {
	var arms *ast.BlockStmt
	for _, statement := range body.List {
		switch s := statement.(type) {
		case *ast.SwitchStmt:
			arms = s.Body
		case *ast.TypeSwitchStmt:
			arms = s.Body
		}
	}
	if arms == nil || len(body.List) > 5 {
		return false
	}
	for _, arm := range arms.List {
		if len(arm.(*ast.CaseClause).Body) > 1 {
			return false
		}
	}
	return true
}
