package definition

import (
	"encoding/json"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a definition.
const (
	maxIDLength   = 200 // leaves room for the rest of a task id, of 255 characters
	maxInstances  = 100000
	maxPorts      = 100
	maxSeconds    = 365 * 24 * 3600
	maxQuantity   = 1e9 // cpus, or MiB
	maxChecks     = 16
	maxConditions = 64
)

const segmentPattern = `^(([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])\.)*([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])$`

var (
	segment   = regexp.MustCompile(segmentPattern)
	isLiteral = regexp.MustCompile(`^[a-zA-Z0-9_/.-]*$`)
	reserved  = []string{"restart", "tasks", "versions", ".", ".."}
)

// refused are members that this version knows but does not honour, with what to do.
// They pass while they say nothing: empty, zero or false.
var refused = map[string]string{
	"gpus":              "GPUs are not supported yet; leave it out",
	"check":             "checks run by the agent are not supported yet; use healthChecks with protocol HTTP or TCP",
	"readinessChecks":   "readiness checks are not supported yet; a health check also holds up a rolling update",
	"dependencies":      "dependencies are not supported yet; leave them out and create the apps in order",
	"secrets":           "secrets are not supported yet; leave them out",
	"residency":         "resident tasks are not supported yet; leave it out",
	"ipAddress":         "only host networking is supported; leave it out",
	"resourceLimits":    "resource limits beyond the request are not supported yet; leave it out",
	"executorResources": "custom executors are not supported yet; leave it out",
	"tty":               "terminals are not supported yet; leave it out",
}

// refuse adds what p asks for and does not get.
func (p Patch) refuse(bad *InvalidError, role string) {
	for _, key := range sortedKeys(p) {
		value := p[key]
		if text, ok := refused[key]; ok && !blank(value) {
			bad.Add("/"+key, "%s", text)
		}
		switch key {
		case "container":
			refuseContainer(value, bad)
		case "executor":
			if value != "" && value != "//cmd" {
				bad.Add("/executor", "custom executors are not supported yet; leave it out")
			}
		case "networks":
			if !hostNetworks(value) {
				bad.Add("/networks", `only host networking is supported: leave it out, or write [{"mode": "host"}]`)
			}
		case "role":
			if value != role {
				bad.Add("/role", "this framework runs with role %q only", role)
			}
		case "acceptedResourceRoles":
			if !acceptedRoles(value, role) {
				bad.Add("/acceptedResourceRoles", "may hold %q and this framework's role %q only", "*", role)
			}
		case "env":
			refuseSecrets(value, bad)
		}
	}
}

func blank(value any) bool {
	switch v := value.(type) {
	case string:
		return v == ""
	case bool:
		return !v
	case json.Number:
		f, err := v.Float64()
		return err == nil && f == 0
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

func hostNetworks(value any) bool {
	list, ok := value.([]any)
	for _, item := range list {
		network, isObject := item.(map[string]any)
		ok = ok && isObject && network["mode"] == "host"
	}
	return ok && len(list) <= 1
}

func acceptedRoles(value any, role string) bool {
	list, ok := value.([]any)
	for _, item := range list {
		ok = ok && (item == "*" || item == role)
	}
	return ok
}

func refuseSecrets(value any, bad *InvalidError) {
	env, _ := value.(map[string]any)
	for _, name := range sortedKeys(env) {
		if _, ok := env[name].(map[string]any); ok {
			bad.Add("/env/"+name, "secrets are not supported yet; give the value as a string")
		}
	}
}

// validate adds what breaks a rule.
func (a *App) validate(bad *InvalidError) {
	validateID(a.ID, bad)
	a.validateCommand(bad)
	a.validateContainer(bad)
	a.validateSize(bad)
	a.validatePorts(bad)
	a.validateChecks(bad)
	a.validateConstraints(bad)
	a.validatePolicy(bad)
}

func validateID(id string, bad *InvalidError) {
	if id == "/" {
		bad.Add("/id", "must not be root")
		return
	}
	if len(id) > maxIDLength {
		bad.Add("/id", "must not be longer than %d characters", maxIDLength)
	}
	segments := strings.Split(strings.TrimPrefix(id, "/"), "/")
	for _, s := range segments {
		if !segment.MatchString(s) && s != "." && s != ".." {
			bad.Add("/id", "must fully match regular expression '%s'", segmentPattern)
			return
		}
	}
	if slices.Contains(reserved, segments[len(segments)-1]) || slices.Contains(segments, "..") || slices.Contains(segments, ".") {
		bad.Add("/id", "must not end with any of the following reserved keywords: %s", strings.Join(reserved, ", "))
	}
}

func (a *App) validateCommand(bad *InvalidError) {
	cmd, args := a.Cmd != "", len(a.Args) > 0
	if cmd && args || !cmd && !args && !a.HasImage() {
		bad.Add("/", "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.")
	}
	if len(a.Cmd) == 1 {
		bad.Add("/cmd", "must not be an empty string")
	}
	for _, name := range sortedKeys(a.Env) {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(a.Env[name], "\x00") {
			bad.Add("/env/"+name, "names must not be empty or hold '=', and nothing may hold a NUL character")
		}
	}
	for _, f := range a.Fetch {
		if u, err := url.Parse(f.URI); f.URI == "" || err != nil || (u.Scheme == "" && !strings.HasPrefix(f.URI, "/")) {
			bad.Add("/fetch/uri", "URI has invalid syntax.")
		}
	}
}

func (a *App) validateSize(bad *InvalidError) {
	if a.Instances < 0 || a.Instances > maxInstances {
		bad.Add("/instances", "must be between 0 and %d", maxInstances)
	}
	for _, q := range []struct {
		path  string
		value float64
		least float64
	}{{"/cpus", a.CPUs, 0.001}, {"/mem", a.Mem, 0}, {"/disk", a.Disk, 0}} {
		if math.IsNaN(q.value) || q.value < q.least || q.value > maxQuantity {
			bad.Add(q.path, "must be between %v and %v", q.least, maxQuantity)
		}
	}
}

func (a *App) validatePorts(bad *InvalidError) {
	if len(a.PortDefinitions) > maxPorts {
		bad.Add("/portDefinitions", "must not have more than %d elements", maxPorts)
		return
	}
	names, numbers := map[string]bool{}, map[int]bool{}
	for _, p := range a.PortDefinitions {
		if p.Port < 0 || p.Port > 65535 {
			bad.Add("/portDefinitions/port", "must be between 0 and 65535")
		}
		if !slices.Contains([]string{"tcp", "udp", "udp,tcp"}, p.Protocol) {
			bad.Add("/portDefinitions/protocol", "must be one of tcp, udp and udp,tcp")
		}
		if p.Name != "" && names[p.Name] {
			bad.Add("/portDefinitions", "Port names must be unique.")
		}
		if p.Port != 0 && numbers[p.Port] {
			bad.Add("/portDefinitions", "Ports must be unique.")
		}
		names[p.Name], numbers[p.Port] = true, true
	}
}

func (a *App) validateChecks(bad *InvalidError) {
	if len(a.HealthChecks) > maxChecks {
		bad.Add("/healthChecks", "must not have more than %d elements", maxChecks)
	}
	for _, c := range a.HealthChecks {
		if c.Protocol != "HTTP" && c.Protocol != "TCP" {
			bad.Add("/healthChecks/protocol", "%q is not supported yet; use HTTP or TCP", c.Protocol)
		}
		index := 0
		if c.PortIndex != nil {
			index = *c.PortIndex
		}
		if c.Port == nil && (index < 0 || index >= len(a.PortDefinitions)) {
			bad.Add("/healthChecks", "Health check port indices must address an element of the ports array or container port mappings.")
		}
		if c.Port != nil && (*c.Port < 1 || *c.Port > 65535) {
			bad.Add("/healthChecks/port", "must be between 1 and 65535")
		}
		for _, s := range []int{c.GracePeriodSeconds, c.IntervalSeconds, c.TimeoutSeconds, c.MaxConsecutiveFailures} {
			if s < 0 || s > maxSeconds {
				bad.Add("/healthChecks", "numbers must be between 0 and %d", maxSeconds)
			}
		}
	}
}

func (a *App) validateConstraints(bad *InvalidError) {
	if len(a.Constraints) > maxConditions {
		bad.Add("/constraints", "must not have more than %d elements", maxConditions)
	}
	for i, c := range a.Constraints {
		if text := constraintFault(c); text != "" {
			bad.Add("/constraints("+strconv.Itoa(i)+")", "%s", text)
		}
	}
}

// constraintFault says what is wrong with one constraint.
func constraintFault(c []string) string {
	if len(c) < 2 || len(c) > 3 {
		return "Each constraint must have either 2 or 3 fields"
	}
	value, given := "", len(c) == 3
	if given {
		value = c[2]
	}
	number, err := strconv.Atoi(value)
	switch {
	case c[0] == "":
		return "missing field for constraint declaration"
	case !slices.Contains([]string{"UNIQUE", "CLUSTER", "GROUP_BY", "LIKE", "UNLIKE", "MAX_PER", "IS"}, strings.ToUpper(c[1])):
		return "operator must be one of the following UNIQUE, CLUSTER, GROUP_BY, LIKE, MAX_PER, UNLIKE or IS"
	}
	switch strings.ToUpper(c[1]) {
	case "UNIQUE":
		if given {
			return "UNIQUE does not accept a value"
		}
	case "GROUP_BY":
		if given && (err != nil || number < 1) {
			return "GROUP BY must define an integer value or else no value at all"
		}
	case "MAX_PER":
		if err != nil || number < 1 {
			return "MAX_PER requires an integer value"
		}
	case "LIKE", "UNLIKE":
		if value == "" {
			return "LIKE and UNLIKE require a non-empty, regular expression value"
		}
		if _, err := regexp.Compile(value); err != nil {
			return "is not a valid regular expression"
		}
	case "IS":
		if !isLiteral.MatchString(value) {
			return "IS only supports text and float values"
		}
	}
	return ""
}

func (a *App) validatePolicy(bad *InvalidError) {
	for _, s := range []struct {
		path  string
		value int
	}{
		{"/backoffSeconds", a.BackoffSeconds}, {"/maxLaunchDelaySeconds", a.MaxLaunchDelaySeconds},
		{"/unreachableStrategy/inactiveAfterSeconds", a.Unreachable.InactiveAfterSeconds},
		{"/unreachableStrategy/expungeAfterSeconds", a.Unreachable.ExpungeAfterSeconds},
	} {
		if s.value < 0 || s.value > maxSeconds {
			bad.Add(s.path, "must be between 0 and %d", maxSeconds)
		}
	}
	if a.Unreachable.InactiveAfterSeconds > a.Unreachable.ExpungeAfterSeconds {
		bad.Add("/unreachableStrategy", "inactiveAfterSeconds must not be greater than expungeAfterSeconds")
	}
	if !(a.BackoffFactor >= 1 && a.BackoffFactor <= 1000) {
		bad.Add("/backoffFactor", "must be between 1 and 1000")
	}
	if g := a.TaskKillGracePeriodSeconds; g != nil && (*g < 0 || *g > maxSeconds) {
		bad.Add("/taskKillGracePeriodSeconds", "must be between 0 and %d", maxSeconds)
	}
	if a.KillSelection != YoungestFirst && a.KillSelection != OldestFirst {
		bad.Add("/killSelection", "must be %s or %s", YoungestFirst, OldestFirst)
	}
	for _, c := range []struct {
		path  string
		value float64
	}{
		{"/upgradeStrategy/minimumHealthCapacity", a.UpgradeStrategy.MinimumHealthCapacity},
		{"/upgradeStrategy/maximumOverCapacity", a.UpgradeStrategy.MaximumOverCapacity},
	} {
		if c.value > 1 {
			bad.Add(c.path, "is greater than 1")
		} else if !(c.value >= 0) {
			bad.Add(c.path, "is less than 0")
		}
		if a.SingleInstance() && c.value != 0 {
			bad.Add(c.path, "must be 0 with the label %s", singleInstanceLabel)
		}
	}
	if a.SingleInstance() && a.Instances > 1 {
		bad.Add("/instances", "must not be greater than 1 with the label %s", singleInstanceLabel)
	}
}
