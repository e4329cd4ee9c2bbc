package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/BurntSushi/toml"
)

// Kinds of plugins that the host runs.
const (
	Allocator     = "allocator"
	Framework     = "framework"
	Containerizer = "containerizer"
	Service       = "service"
)

// Where plugins run.
const (
	OnMaster = "master"
	OnAgent  = "agent"
)

// Bounds of plugins.toml. The parser's time grows with the depth of every key, and depth
// is the product of what is nested and what is dotted: each bound alone serves nothing
// (500 inline tables under keys of 90 dots, in 92 KB, take minutes). With these the worst
// file takes a second or two.
const (
	maxManifestBytes = 256 << 10
	maxBrackets      = 1000 // [
	maxBraces        = 32   // {
	maxLineDots      = 16
	maxBraceDots     = 64 // on all lines with a brace: what nests has its key on its line
	maxPlugins       = 64
)

// Manifest is what plugins.toml says.
type Manifest struct {
	// Path is the file's, for messages.
	Path string
	// Plugins are in the order of the file.
	Plugins []Entry
	// Problems are entries that are well-formed but can't run; the cluster does without.
	Problems []Problem
}

// Entry is one plugin.
type Entry struct {
	// Name is unique: a letter, then letters, digits and dashes, at most 32 in all.
	Name string
	// Kind is Allocator, Framework, Containerizer or Service.
	Kind string
	// On is OnMaster, or OnAgent for one that runs on every agent.
	On string
	// Images are the kinds of images that a containerizer prepares; no two have one in common.
	Images []string
	// Runner is a program that a containerizer has its containers run, below the folder of plugins
	// unless absolute; empty: none.
	Runner string
	// Path of the binary, below the folder of plugins unless absolute; when the file says
	// nothing, KIND-NAME, or host-wasm for a module.
	Path string
	// Module, unless nil, is what the binary is to run.
	Module *Module
	// Listen is a loopback host:port that the host listens on for the plugin, or empty.
	Listen string
	// Home says that a service answers whatever the master's own listener does not serve.
	Home bool
	// Config is the plugin's own table as JSON; {} when there is none.
	Config []byte
	// MemoryMB bounds the plugin's memory where cgroups can.
	MemoryMB int64
	// Line of the entry in the file.
	Line int
}

// Module is a WASM module that is a plugin.
type Module struct {
	// Path of the file, below the folder of plugins unless absolute.
	Path string
	// MemoryMB bounds the module's own memory, which is part of its plugin's.
	MemoryMB int64
	// DeadlineMillis is how long the module may take for one message.
	DeadlineMillis int64
}

// What holds for an entry unless the file says otherwise.
const (
	DefaultMemoryMB             = 1024
	DefaultModuleMemoryMB       = 64
	DefaultModuleDeadlineMillis = 2000
)

// moduleHost is the plugin that runs modules.
const moduleHost = "host-wasm"

// moduleHostMB is what it needs for itself: messages and the module's machine code.
const moduleHostMB = 64

// On is the part of the manifest that runs there: OnMaster or OnAgent. Problems are the
// master's to tell.
func (m Manifest) On(where string) Manifest {
	part := Manifest{Path: m.Path}
	for _, e := range m.Plugins {
		if e.On == where {
			part.Plugins = append(part.Plugins, e)
		}
	}
	if where == OnMaster {
		part.Problems = m.Problems
	}
	return part
}

// Problem is a plugin that the cluster runs without.
type Problem struct {
	// Place is FILE:LINE.
	Place string
	// Plugin is the entry's name.
	Plugin string
	// Message says what is wrong, and what to do.
	Message string
}

func (p Problem) String() string {
	return fmt.Sprintf("%s: running without %s: %s", p.Place, p.Plugin, p.Message)
}

// Load reads a plugins.toml. Anything that it does not know is an error, one line that
// begins with FILE:LINE.
func Load(path string) (Manifest, error) {
	f, err := os.Open(path)
	if err != nil {
		return Manifest{}, fmt.Errorf("read plugins: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxManifestBytes+1))
	if err != nil {
		return Manifest{}, fmt.Errorf("read plugins: %w", err)
	}
	return parse(path, text)
}

// parse reads the text of the manifest at path.
func parse(path string, text []byte) (Manifest, error) {
	m := Manifest{Path: path}
	d := &decoder{path: path}
	if err := d.bound(text); err != nil {
		return m, err
	}
	var top map[string]toml.Primitive
	var err error
	if d.meta, err = toml.Decode(string(text), &top); err != nil {
		return m, d.explain(err)
	}
	for _, key := range d.below() {
		if key != "plugin" {
			return m, d.fail(d.line(top[key]), "unknown key %q; plugins are tables named [plugin.NAME]", key)
		}
	}
	entries, ok := d.table(top["plugin"])
	if !ok && len(top) > 0 {
		return m, d.fail(d.line(top["plugin"]), "plugin is not a table; plugins are tables named [plugin.NAME]")
	}
	for _, name := range d.below("plugin") {
		if err := d.add(&m, name, entries[name]); err != nil {
			return m, err
		}
	}
	return m, nil
}

type decoder struct {
	path string
	meta toml.MetaData
}

func (d *decoder) place(line int) string { return d.path + ":" + strconv.Itoa(max(line, 1)) }

func (d *decoder) fail(line int, format string, args ...any) error {
	return fmt.Errorf("%s: %s", d.place(line), fmt.Sprintf(format, args...))
}

// explain brings a parser's error into our form.
func (d *decoder) explain(err error) error {
	if e, ok := errors.AsType[toml.ParseError](err); ok {
		return d.fail(e.Position.Line, "not TOML: %s", e.Message)
	}
	return fmt.Errorf("%s: not TOML: %w", d.path, err)
}

// bound refuses what would take the parser long.
func (d *decoder) bound(text []byte) error {
	if len(text) > maxManifestBytes {
		return d.fail(1, "the file has more than %d bytes", maxManifestBytes)
	}
	if bytes.Count(text, []byte("[")) > maxBrackets {
		return d.fail(1, "the file has more than %d opening brackets", maxBrackets)
	}
	number, braces, braceDots := 0, 0, 0
	for line := range bytes.Lines(text) {
		number++
		dots := bytes.Count(line, []byte("."))
		if dots > maxLineDots {
			return d.fail(number, "the line has more than %d dots; break it", maxLineDots)
		}
		if n := bytes.Count(line, []byte("{")); n > 0 {
			braces, braceDots = braces+n, braceDots+dots
		}
		if braces > maxBraces || braceDots > maxBraceDots {
			return d.fail(number, "too much is in braces (at most %d, with %d dots on their lines); write tables with a [heading]", maxBraces, maxBraceDots)
		}
	}
	return nil
}

// below are the keys directly below a table, each once, in the order of the file.
func (d *decoder) below(table ...string) []string {
	var names []string
	seen := make(map[string]bool)
	for _, key := range d.meta.Keys() {
		if n := len(table); len(key) > n && slices.Equal(key[:n], table) && !seen[key[n]] {
			seen[key[n]] = true
			names = append(names, key[n])
		}
	}
	return names
}

// table decodes one level of a table; false means that p is something else.
func (d *decoder) table(p toml.Primitive) (map[string]toml.Primitive, bool) {
	var keys map[string]toml.Primitive
	err := d.meta.PrimitiveDecode(p, &keys) // which leaves keys nil, and is silent, for an array
	return keys, err == nil && keys != nil
}

// probe is decoded into to learn where something stands: the parser tells lines only in
// errors.
type probe struct{}

var errProbe = errors.New("probe")

func (probe) UnmarshalTOML(any) error { return errProbe }

func (d *decoder) line(p toml.Primitive) int {
	e, _ := errors.AsType[toml.ParseError](d.meta.PrimitiveDecode(p, probe{}))
	return e.Position.Line
}

var goodName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// add decodes one entry.
func (d *decoder) add(m *Manifest, name string, table toml.Primitive) error {
	line := d.line(table)
	if !goodName.MatchString(name) {
		return d.fail(line, "plugin name %q: use a-z, then a-z, 0-9 or -, at most 32 in all", name)
	}
	keys, ok := d.table(table)
	if !ok {
		return d.fail(line, "plugin.%s is not a table", name)
	}
	if line == 0 { // only [plugin.NAME.config] is there
		for _, p := range keys {
			line = d.line(p)
		}
	}
	e := Entry{Name: name, Config: []byte("{}"), MemoryMB: DefaultMemoryMB, Line: line}
	e.Module = &Module{MemoryMB: DefaultModuleMemoryMB, DeadlineMillis: DefaultModuleDeadlineMillis}
	for _, key := range d.below("plugin", name) {
		if err := d.set(&e, key, keys[key]); err != nil {
			return err
		}
	}
	if err := d.settleModule(&e, keys); err != nil {
		return err
	}
	if e.Kind == "" {
		return d.fail(line, "plugin %s does not say its kind; write kind = \"allocator\", \"framework\", \"containerizer\" or \"service\"", name)
	}
	return d.accept(m, e)
}

// set decodes one key of an entry.
func (d *decoder) set(e *Entry, key string, value toml.Primitive) error {
	into := map[string]any{
		"kind": &e.Kind, "path": &e.Path, "on": &e.On, "listen": &e.Listen, "home": &e.Home, "memory_mb": &e.MemoryMB, "images": &e.Images,
		"runner": &e.Runner,
		"module": &e.Module.Path, "module_memory_mb": &e.Module.MemoryMB, "module_deadline_ms": &e.Module.DeadlineMillis,
	}[key]
	if key == "config" {
		var config map[string]any
		if d.meta.PrimitiveDecode(value, &config) != nil || config == nil {
			return d.fail(d.line(value), "config of plugin %s is not a table", e.Name)
		}
		var err error
		if e.Config, err = json.Marshal(config); err != nil {
			return d.fail(d.line(value), "config of plugin %s: %v", e.Name, err)
		}
		return nil
	}
	if into == nil {
		return d.fail(d.line(value), "unknown key %q of plugin %s; there are kind, path, on, listen, home, images, runner, memory_mb, module, module_memory_mb, module_deadline_ms and the table config", key, e.Name)
	}
	if d.meta.PrimitiveDecode(value, into) != nil {
		want := "text in quotes"
		switch into.(type) {
		case *int64:
			want = "a whole number"
		case *bool:
			want = "true or false"
		case *[]string:
			want = "a list of texts in quotes"
		}
		return d.fail(d.line(value), "%s of plugin %s is not %s", key, e.Name, want)
	}
	return nil
}

// settleModule checks what the entry says of a module; without one there is nothing to say.
func (d *decoder) settleModule(e *Entry, keys map[string]toml.Primitive) error {
	m := e.Module
	if _, ok := keys["module"]; !ok {
		for _, key := range []string{"module_memory_mb", "module_deadline_ms"} {
			if p, ok := keys[key]; ok {
				return d.fail(d.line(p), "%s of plugin %s: there is no module; name its file with module = \"FILE.wasm\"", key, e.Name)
			}
		}
		e.Module = nil
		return nil
	}
	if p, ok := keys["path"]; ok {
		return d.fail(d.line(p), "plugin %s has a path and a module: a module runs in %s; drop path", e.Name, moduleHost)
	}
	e.Path = moduleHost
	switch {
	case m.Path == "":
		return d.fail(d.line(keys["module"]), "module of plugin %s is empty; name the file of the module", e.Name)
	case !filepath.IsAbs(m.Path) && !filepath.IsLocal(m.Path):
		return d.fail(d.line(keys["module"]), "module %q of plugin %s leaves the folder of plugins; write an absolute path for a module elsewhere", m.Path, e.Name)
	case m.MemoryMB < 1 || m.MemoryMB > 4096:
		return d.fail(d.line(keys["module_memory_mb"]), "module_memory_mb = %d of plugin %s: a module has 1 to 4096", m.MemoryMB, e.Name)
	case m.DeadlineMillis < 1 || m.DeadlineMillis > 60_000:
		return d.fail(d.line(keys["module_deadline_ms"]), "module_deadline_ms = %d of plugin %s: a module has 1 to 60000", m.DeadlineMillis, e.Name)
	case m.MemoryMB+moduleHostMB > e.MemoryMB:
		return d.fail(e.Line, "memory_mb = %d of plugin %s: %s needs %d MB beside the module's %d", e.MemoryMB, e.Name, moduleHost, moduleHostMB, m.MemoryMB)
	}
	return nil
}

// accept checks an entry against itself and the others, and adds it to m.
func (d *decoder) accept(m *Manifest, e Entry) error {
	if e.Path == "" {
		e.Path = e.Kind + "-" + e.Name
	}
	if len(m.Plugins)+len(m.Problems) == maxPlugins {
		return d.fail(e.Line, "there are more than %d plugins", maxPlugins)
	}
	if !filepath.IsAbs(e.Path) && !filepath.IsLocal(e.Path) {
		return d.fail(e.Line, "path %q of plugin %s leaves the folder of plugins; write an absolute path for a binary elsewhere", e.Path, e.Name)
	}
	if e.MemoryMB < 16 {
		return d.fail(e.Line, "memory_mb = %d of plugin %s: a plugin needs at least 16", e.MemoryMB, e.Name)
	}
	switch e.Kind {
	case Allocator, Framework, Containerizer, Service:
		if e.Module != nil && e.Kind != Allocator {
			m.Problems = append(m.Problems, Problem{d.place(e.Line), e.Name, fmt.Sprintf("modules of kind %s are not supported yet; only allocators are", e.Kind)})
			return nil
		}
	default:
		return d.fail(e.Line, "unknown kind %q of plugin %s; there are allocator, framework, containerizer and service", e.Kind, e.Name)
	}
	if err := settlePlace(&e); err != nil {
		return d.fail(e.Line, "%v", err)
	}
	if err := checkRunner(e); err != nil {
		return d.fail(e.Line, "%v", err)
	}
	if err := checkImages(e, m.Plugins); err != nil {
		return d.fail(e.Line, "%v", err)
	}
	if e.Listen != "" {
		if err := checkListen(e); err != nil {
			return d.fail(e.Line, "%v", err)
		}
	}
	if e.Home && e.Kind != Service {
		return d.fail(e.Line, "plugin %s has home, but only a service can answer at the master's address", e.Name)
	}
	for _, other := range m.Plugins {
		if e.Home && other.Home {
			return d.fail(e.Line, "plugin %s wants to be home, as %s does (line %d); keep one", e.Name, other.Name, other.Line)
		}
		if e.Kind == Allocator && other.Kind == Allocator {
			return d.fail(e.Line, "plugin %s is a second allocator beside %s (line %d); keep one", e.Name, other.Name, other.Line)
		}
		if e.Listen != "" && e.Listen == other.Listen && !ephemeral(e.Listen) {
			return d.fail(e.Line, "plugin %s listens on %s, as %s does (line %d)", e.Name, e.Listen, other.Name, other.Line)
		}
	}
	m.Plugins = append(m.Plugins, e)
	return nil
}

// settlePlace checks where the plugin is to run: each kind has its place.
func settlePlace(e *Entry) error {
	place := OnMaster
	if e.Kind == Containerizer {
		place = OnAgent
	}
	switch e.On {
	case "", place:
		e.On = place
		return nil
	case OnMaster, OnAgent:
		return fmt.Errorf("plugin %s is to run on = %q, but plugins of kind %s run on the %s; write on = %q", e.Name, e.On, e.Kind, place, place)
	}
	return fmt.Errorf("on = %q of plugin %s; there are %q and %q", e.On, e.Name, OnMaster, OnAgent)
}

func checkRunner(e Entry) error {
	switch {
	case e.Runner == "":
	case e.Kind != Containerizer:
		return fmt.Errorf("plugin %s has a runner, but plugins of kind %s have no containers", e.Name, e.Kind)
	case !filepath.IsAbs(e.Runner) && !filepath.IsLocal(e.Runner):
		return fmt.Errorf("runner %q of plugin %s leaves the folder of plugins; write an absolute path for a binary elsewhere", e.Runner, e.Name)
	}
	return nil
}

// checkImages says whether it is clear which images the plugin is for.
func checkImages(e Entry, others []Entry) error {
	if e.Kind != Containerizer {
		if e.Images != nil {
			return fmt.Errorf("plugin %s has images, but plugins of kind %s prepare none", e.Name, e.Kind)
		}
		return nil
	}
	if len(e.Images) == 0 {
		return fmt.Errorf("plugin %s does not say which images it prepares; write images = [\"docker\"], say", e.Name)
	}
	for i, kind := range e.Images {
		if !goodName.MatchString(kind) {
			return fmt.Errorf("kind of images %q of plugin %s: use a-z, then a-z, 0-9 or -, at most 32 in all", kind, e.Name)
		}
		if slices.Contains(e.Images[:i], kind) {
			return fmt.Errorf("plugin %s names images of kind %q twice", e.Name, kind)
		}
		for _, other := range others {
			if slices.Contains(other.Images, kind) {
				return fmt.Errorf("plugin %s prepares images of kind %q, as %s does (line %d)", e.Name, kind, other.Name, other.Line)
			}
		}
	}
	return nil
}

// checkListen refuses addresses that others than this machine could reach: a plugin's
// listener has no authentication.
func checkListen(e Entry) error {
	if e.Kind != Framework && e.Kind != Service {
		return fmt.Errorf("plugin %s has listen, but plugins of kind %s serve no HTTP", e.Name, e.Kind)
	}
	name, port, err := net.SplitHostPort(e.Listen)
	if err != nil {
		return fmt.Errorf("listen = %q of plugin %s is not HOST:PORT, as in 127.0.0.1:8080", e.Listen, e.Name)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("listen = %q of plugin %s: the port is a number from 0 to 65535", e.Listen, e.Name)
	}
	if ip, err := netip.ParseAddr(name); name != "localhost" && (err != nil || !ip.IsLoopback()) {
		return fmt.Errorf("listen = %q of plugin %s reaches beyond this machine, and there is no authentication yet; use 127.0.0.1:%s", e.Listen, e.Name, port)
	}
	return nil
}

func ephemeral(listen string) bool {
	_, port, err := net.SplitHostPort(listen)
	return err == nil && port == "0"
}
