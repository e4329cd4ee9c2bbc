package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"strconv"
	"strings"
)

// maxDepth bounds how deep the values of a body are nested.
const maxDepth = 32

// Patch is what a client said about one app: the members of its JSON object, without
// nulls, which mean "absent".
type Patch map[string]any

// ParsePatch reads one object. Errors: *SyntaxError, *InvalidError.
func ParsePatch(body []byte) (Patch, error) {
	tree, err := parse(body)
	if err != nil {
		return nil, err
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return nil, wrongShape("", "error.expected.jsobject")
	}
	return object, nil
}

// ParsePatches reads an array of objects, each with its id. Errors: *SyntaxError, *InvalidError.
func ParsePatches(body []byte) ([]Patch, error) {
	tree, err := parse(body)
	if err != nil {
		return nil, err
	}
	list, ok := tree.([]any)
	if !ok {
		return nil, wrongShape("", "error.expected.jsarray")
	}
	patches := make([]Patch, len(list))
	for i, item := range list {
		object, ok := item.(map[string]any)
		if !ok {
			return nil, wrongShape(fmt.Sprintf("(%d)", i), "error.expected.jsobject")
		}
		patches[i] = object
		if _, err := patches[i].ID(); err != nil {
			return nil, err
		}
	}
	return patches, nil
}

// ID is the absolute id that the patch names. Error: *InvalidError.
func (p Patch) ID() (string, error) {
	value, ok := p["id"]
	if !ok {
		return "", wrongShape("/id", "error.path.missing")
	}
	text, ok := value.(string)
	if !ok {
		return "", wrongShape("/id", "error.expected.jsstring")
	}
	return CanonicalID(text), nil
}

// Strings is the list of strings at key. Error: *InvalidError.
func (p Patch) Strings(key string) ([]string, error) {
	list, ok := p[key].([]any)
	if !ok {
		return nil, wrongShape("/"+key, "error.expected.jsarray")
	}
	texts := make([]string, len(list))
	for i, item := range list {
		if texts[i], ok = item.(string); !ok {
			return nil, wrongShape("/"+key, "error.expected.jsstring")
		}
	}
	return texts, nil
}

func wrongShape(path, text string) error {
	return &InvalidError{Shape: true, Details: []Detail{{Path: path, Errors: []string{text}}}}
}

// parse reads one JSON value, drops nulls and writes whole numbers as such.
func parse(body []byte) (any, error) {
	if err := checkDepth(body); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, &SyntaxError{Detail: "No content to map due to end-of-input"}
		}
		return nil, &SyntaxError{Detail: err.Error()}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, &SyntaxError{Detail: "something follows the JSON value"}
	}
	return clean(tree), nil
}

// checkDepth bounds nesting before anything recursive looks at the body.
func checkDepth(body []byte) error {
	depth, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return &SyntaxError{Detail: fmt.Sprintf("values are nested more than %d deep", maxDepth)}
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

func clean(tree any) any {
	switch v := tree.(type) {
	case map[string]any:
		for key, member := range v { // any order: each member by itself
			if member == nil {
				delete(v, key)
				continue
			}
			v[key] = clean(member)
		}
	case []any:
		kept := make([]any, 0, len(v))
		for _, item := range v {
			if item != nil {
				kept = append(kept, clean(item))
			}
		}
		return kept
	case json.Number:
		return wholeNumber(v)
	}
	return tree
}

// wholeNumber writes 2.0 as 2, which is how some clients send integers.
func wholeNumber(n json.Number) json.Number {
	if !strings.ContainsAny(string(n), ".eE") {
		return n
	}
	f, err := n.Float64()
	if err != nil || f != float64(int64(f)) || f > 1<<52 || f < -(1<<52) {
		return n
	}
	return json.Number(strconv.FormatInt(int64(f), 10))
}

// Apply is the definition that p makes of base; the result is complete and validated.
// Errors: *InvalidError.
func (p Patch) Apply(base App, role string) (App, error) {
	var bad InvalidError
	p.refuse(&bad, role)
	if err := bad.OrNil(); err != nil {
		return App{}, err
	}
	tree, err := toTree(base)
	if err != nil {
		return App{}, err
	}
	maps.Copy(tree, p.translate(&bad))
	tree["id"] = base.ID
	app, err := fromTree(tree)
	if err != nil {
		return App{}, err
	}
	app.validate(&bad)
	return app, bad.OrNil()
}

func toTree(a App) (map[string]any, error) {
	data, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("encode app %s: %w", a.ID, err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	tree := map[string]any{}
	if err := d.Decode(&tree); err != nil {
		return nil, fmt.Errorf("decode app %s: %w", a.ID, err)
	}
	return tree, nil
}

func fromTree(tree map[string]any) (App, error) {
	data, err := json.Marshal(tree)
	if err != nil {
		return App{}, fmt.Errorf("encode an app: %w", err)
	}
	var app App
	err = json.Unmarshal(data, &app)
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.As(err, &mismatch):
		path := "/" + strings.ReplaceAll(mismatch.Field, ".", "/")
		return App{}, wrongShape(path, expected(mismatch.Type))
	case err != nil:
		return App{}, wrongShape("", err.Error())
	}
	app.normalize()
	return app, nil
}

// normalize writes "nothing" in one way, so that definitions can be compared.
func (a *App) normalize() {
	if len(a.Args) == 0 {
		a.Args = nil
	}
	if len(a.AcceptedResourceRoles) == 0 {
		a.AcceptedResourceRoles = nil
	}
	for i := range a.PortDefinitions {
		if len(a.PortDefinitions[i].Labels) == 0 {
			a.PortDefinitions[i].Labels = nil
		}
	}
	for _, c := range a.Constraints {
		if len(c) > 1 {
			c[1] = strings.ToUpper(c[1])
		}
	}
}

// expected names the JSON type that a field of type t takes.
func expected(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "error.expected.jsstring"
	case reflect.Bool:
		return "error.expected.jsboolean"
	case reflect.Slice, reflect.Array:
		return "error.expected.jsarray"
	case reflect.Map, reflect.Struct:
		return "error.expected.jsobject"
	case reflect.Int:
		return "error.expected.int"
	default:
		return "error.expected.jsnumber"
	}
}

// known are the members of App that a client may set.
var known = []string{
	"cmd", "args", "container", "user", "env", "instances", "cpus", "mem", "disk", "constraints", "fetch",
	"portDefinitions", "requirePorts", "acceptedResourceRoles", "backoffSeconds", "backoffFactor", "maxLaunchDelaySeconds",
	"healthChecks", "labels", "upgradeStrategy", "killSelection", "unreachableStrategy", "taskKillGracePeriodSeconds",
}

// nested are what absent members of objects inside a definition mean.
var nested = map[string]map[string]any{
	"fetch":           {"extract": true},
	"portDefinitions": {"protocol": "tcp"},
	"healthChecks": {
		"protocol": "HTTP", "gracePeriodSeconds": 300, "intervalSeconds": 60, "timeoutSeconds": 20, "maxConsecutiveFailures": 3,
	},
	"upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 1},
}

// translate picks the known members, in the current form, with nested defaults filled in.
func (p Patch) translate(bad *InvalidError) map[string]any {
	tree := map[string]any{}
	for _, key := range known {
		if value, ok := p[key]; ok {
			tree[key] = filled(value, nested[key])
			if key == "container" {
				tree[key] = containerOf(value)
			}
		}
	}
	if uris, ok := p["uris"].([]any); ok {
		if list, ok := p["fetch"].([]any); ok && len(list) > 0 && len(uris) > 0 {
			bad.Add("/uris", "may not be set in conjunction with fetch")
		} else if !ok || len(uris) > 0 {
			tree["fetch"] = artifacts(uris)
		}
	}
	if ports, ok := p["ports"].([]any); ok {
		if list, ok := p["portDefinitions"].([]any); ok && len(list) > 0 {
			if !samePorts(list, ports) {
				bad.Add("/", "cannot specify both ports and port definitions")
			}
		} else {
			tree["portDefinitions"] = definitions(ports)
		}
	}
	return tree
}

func filled(value any, absent map[string]any) any {
	switch v := value.(type) {
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = filled(v[i], absent)
		}
		return list
	case map[string]any:
		if absent == nil {
			return v
		}
		object := map[string]any{}
		maps.Copy(object, absent)
		maps.Copy(object, v)
		return object
	}
	return value
}

// artifacts is the current form of the old "uris".
func artifacts(uris []any) []any {
	list := make([]any, len(uris))
	for i, uri := range uris {
		list[i] = map[string]any{"uri": uri, "extract": true}
	}
	return list
}

// definitions is the current form of the old "ports".
func definitions(ports []any) []any {
	list := make([]any, len(ports))
	for i, port := range ports {
		list[i] = map[string]any{"port": port, "protocol": "tcp"}
		if i == 0 {
			list[i].(map[string]any)["name"] = "default"
		}
	}
	return list
}

func samePorts(definitions, ports []any) bool {
	if len(ports) == 0 {
		return true
	}
	if len(definitions) != len(ports) {
		return false
	}
	for i, d := range definitions {
		object, _ := d.(map[string]any)
		if object["port"] != ports[i] {
			return false
		}
	}
	return true
}
