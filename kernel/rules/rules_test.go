package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Every rule has one test, which has its sentence as a name: what is given to refuse, but
// for what only says in whose name another rule is told. told sees that the test is true
// to its name.
func TestEveryRuleHasATestOfItsName(t *testing.T) {
	tests := map[string]int{}
	for _, file := range parseGo(t, "*_test.go") {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if name, ok := text(n.Key); ok {
					tests[name]++
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "Run" && len(n.Args) > 0 {
					if name, ok := text(n.Args[0]); ok {
						tests[name]++
					}
				}
			}
			return true
		})
	}
	for _, rule := range sentences(t) {
		if tests[rule] != 1 {
			t.Errorf("%d tests are named %q", tests[rule], rule)
		}
	}
}

// told compares an error with the text that is expected; empty is none.
func told(t *testing.T, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	_, name, _ := strings.Cut(t.Name(), "/")
	for _, rule := range sentences(t) {
		if strings.ReplaceAll(rule, " ", "_") == name && !matcher(rule).MatchString(want) {
			t.Errorf("the test is named after a rule that %q is not of", want)
		}
	}
}

var (
	parsed sync.Once
	rules  []string
)

// sentences are the formats of all rules in the order of the alphabet.
func sentences(t *testing.T) []string {
	t.Helper()
	parsed.Do(func() {
		for _, file := range slices.Concat(parseGo(t, "*.go"), parseGo(t, "../ledger/role.go")) {
			ast.Inspect(file, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					if f, ok := call.Fun.(*ast.Ident); ok && f.Name == "refuse" {
						if rule, ok := text(call.Args[0]); ok && !strings.Contains(rule, "%w") {
							rules = append(rules, rule)
						}
					}
				}
				return true
			})
		}
		slices.Sort(rules)
		rules = slices.Compact(rules)
	})
	if len(rules) < 100 {
		t.Fatalf("%d rules were found", len(rules))
	}
	return rules
}

var verb = regexp.MustCompile(`%[.0-9]*[a-z]`)

// matcher finds what was made of a format.
func matcher(format string) *regexp.Regexp {
	var pattern strings.Builder
	at := 0
	for _, v := range verb.FindAllStringIndex(format, -1) {
		pattern.WriteString(regexp.QuoteMeta(format[at:v[0]]) + "(?s:.*)")
		at = v[1]
	}
	return regexp.MustCompile(pattern.String() + regexp.QuoteMeta(format[at:]) + "$")
}

func parseGo(t *testing.T, pattern string) []*ast.File {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no files are %s: %v", pattern, err)
	}
	var files []*ast.File
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// text is the string that an expression is.
func text(e ast.Expr) (string, bool) {
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(literal.Value)
	return s, err == nil
}
