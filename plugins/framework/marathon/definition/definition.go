package definition

import (
	"encoding/json"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
)

// App is one version of an app's definition in the canonical form that answers show. A
// value is never changed once it is part of the machine, so copies may share its maps and
// slices.
type App struct {
	// ID is absolute: /group/name.
	ID string `json:"id"`
	// Exactly one of Cmd (for the shell) and Args (argv) is set, or none where an image says
	// what to run.
	Cmd  string   `json:"cmd,omitempty"`
	Args []string `json:"args,omitempty"`
	// Container is nil for the programs of the agent's host.
	Container *Container `json:"container,omitempty"`
	// User runs the task; empty means the image's, or else the framework's.
	User      string            `json:"user,omitempty"`
	Env       map[string]string `json:"env"`
	Instances int               `json:"instances"`
	CPUs      float64           `json:"cpus"`
	// Mem and Disk are MiB.
	Mem             float64          `json:"mem"`
	Disk            float64          `json:"disk"`
	Constraints     [][]string       `json:"constraints"`
	Fetch           []Artifact       `json:"fetch"`
	PortDefinitions []PortDefinition `json:"portDefinitions"`
	// AcceptedResourceRoles are kept for clients to read: all resources of an offer are used.
	AcceptedResourceRoles []string `json:"acceptedResourceRoles,omitempty"`
	// RequirePorts asks for the defined ports themselves on the host.
	RequirePorts               bool              `json:"requirePorts"`
	BackoffSeconds             int               `json:"backoffSeconds"`
	BackoffFactor              float64           `json:"backoffFactor"`
	MaxLaunchDelaySeconds      int               `json:"maxLaunchDelaySeconds"`
	HealthChecks               []HealthCheck     `json:"healthChecks"`
	Labels                     map[string]string `json:"labels"`
	UpgradeStrategy            UpgradeStrategy   `json:"upgradeStrategy"`
	KillSelection              string            `json:"killSelection"`
	Unreachable                Unreachable       `json:"unreachableStrategy"`
	TaskKillGracePeriodSeconds *int              `json:"taskKillGracePeriodSeconds,omitempty"`
	// Version and VersionInfo are the machine's, in the form of VersionLayout.
	Version     string      `json:"version,omitempty"`
	VersionInfo VersionInfo `json:"versionInfo,omitzero"`
}

// MaxBytes bounds a definition's JSON.
const MaxBytes = 1 << 20

// VersionLayout is how a version, the time of a change in UTC, is written.
const VersionLayout = "2006-01-02T15:04:05.000Z"

// Artifact is a file to fetch into the sandbox before the task starts.
type Artifact struct {
	URI        string `json:"uri"`
	Extract    bool   `json:"extract"`
	Executable bool   `json:"executable"`
	Cache      bool   `json:"cache"`
	DestPath   string `json:"destPath,omitempty"`
}

// PortDefinition asks for one host port. Port is the service port, by which load
// balancers know the app, and with RequirePorts the host port too.
type PortDefinition struct {
	Port     int               `json:"port"`
	Protocol string            `json:"protocol"`
	Name     string            `json:"name,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
}

// HealthCheck is a probe of each running instance.
type HealthCheck struct {
	// Protocol is HTTP or TCP.
	Protocol string `json:"protocol"`
	Path     string `json:"path,omitempty"`
	// Port is fixed, PortIndex counts the instance's ports; without either: index 0.
	Port                   *int `json:"port,omitempty"`
	PortIndex              *int `json:"portIndex,omitempty"`
	GracePeriodSeconds     int  `json:"gracePeriodSeconds"`
	IntervalSeconds        int  `json:"intervalSeconds"`
	TimeoutSeconds         int  `json:"timeoutSeconds"`
	MaxConsecutiveFailures int  `json:"maxConsecutiveFailures"`
	IgnoreHTTP1xx          bool `json:"ignoreHttp1xx"`
}

// UpgradeStrategy bounds a rolling update, as parts of the number of instances.
type UpgradeStrategy struct {
	MinimumHealthCapacity float64 `json:"minimumHealthCapacity"`
	MaximumOverCapacity   float64 `json:"maximumOverCapacity"`
}

// Unreachable says how long an instance on a lost agent is waited for.
type Unreachable struct {
	// Disabled waits for ever.
	Disabled bool `json:"-"`
	// InactiveAfterSeconds passes until it is replaced.
	InactiveAfterSeconds int `json:"inactiveAfterSeconds"`
	ExpungeAfterSeconds  int `json:"expungeAfterSeconds"`
}

// VersionInfo says which versions last changed the scale and everything else.
type VersionInfo struct {
	LastScalingAt      string `json:"lastScalingAt"`
	LastConfigChangeAt string `json:"lastConfigChangeAt"`
}

const disabled = `"disabled"`

// MarshalJSON writes "disabled" or the two numbers.
func (u Unreachable) MarshalJSON() ([]byte, error) {
	if u.Disabled {
		return []byte(disabled), nil
	}
	type plain Unreachable
	return json.Marshal(plain(u))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (u *Unreachable) UnmarshalJSON(data []byte) error {
	if string(data) == disabled {
		*u = Unreachable{Disabled: true}
		return nil
	}
	type plain Unreachable
	return json.Unmarshal(data, (*plain)(u))
}

// Values of KillSelection.
const (
	YoungestFirst = "YOUNGEST_FIRST"
	OldestFirst   = "OLDEST_FIRST"
)

// singleInstanceLabel marks an app that may never run twice.
const singleInstanceLabel = "MARATHON_SINGLE_INSTANCE_APP"

// Initial is the definition that a new app starts from.
func Initial(id string) App {
	return App{
		ID:                    id,
		Env:                   map[string]string{},
		Instances:             1,
		CPUs:                  1,
		Mem:                   128,
		Constraints:           [][]string{},
		Fetch:                 []Artifact{},
		PortDefinitions:       []PortDefinition{{Protocol: "tcp", Name: "default"}},
		BackoffSeconds:        1,
		BackoffFactor:         1.15,
		MaxLaunchDelaySeconds: 300,
		HealthChecks:          []HealthCheck{},
		Labels:                map[string]string{},
		UpgradeStrategy:       UpgradeStrategy{MinimumHealthCapacity: 1, MaximumOverCapacity: 1},
		KillSelection:         YoungestFirst,
	}
}

// SingleInstance says that two instances may never run at once.
func (a *App) SingleInstance() bool { return strings.EqualFold(a.Labels[singleInstanceLabel], "true") }

// SameConfig says that b differs from a in nothing that asks for new instances.
func (a App) SameConfig(b App) bool {
	a.Instances, b.Instances = 0, 0
	a.Version, b.Version = "", ""
	a.VersionInfo, b.VersionInfo = VersionInfo{}, VersionInfo{}
	return reflect.DeepEqual(a, b)
}

// Grace is the time that a task has between the polite signal and the other one.
func (a *App) Grace() (time.Duration, bool) {
	if a.TaskKillGracePeriodSeconds == nil {
		return 0, false
	}
	return time.Duration(*a.TaskKillGracePeriodSeconds) * time.Second, true
}

// ServicePorts are the ports by which load balancers know the app.
func (a *App) ServicePorts() []int {
	ports := make([]int, len(a.PortDefinitions))
	for i, p := range a.PortDefinitions {
		ports[i] = p.Port
	}
	return ports
}

// Bounds are, of so many wanted instances, how many stay healthy and how many exist at
// most while old ones are replaced.
func (u UpgradeStrategy) Bounds(instances int) (minHealthy, capacity int) {
	n := float64(instances)
	minHealthy = int(math.Ceil(n * u.MinimumHealthCapacity))
	capacity = int(math.Floor(n * (1 + u.MaximumOverCapacity)))
	if minHealthy == capacity {
		capacity++ // otherwise nothing could ever be replaced
	}
	return minHealthy, capacity
}

// PortOf is the port that c looks at on an instance with these ports; false when the
// definition points beyond them.
func (c *HealthCheck) PortOf(ports []int) (int, bool) {
	if c.Port != nil {
		return *c.Port, true
	}
	index := 0
	if c.PortIndex != nil {
		index = *c.PortIndex
	}
	if index < 0 || index >= len(ports) {
		return 0, false
	}
	return ports[index], true
}

// CanonicalID is the absolute form of an id as a client wrote it in a path or a body:
// one leading slash and no empty segments. It does not validate.
func CanonicalID(id string) string {
	segments := strings.FieldsFunc(id, func(r rune) bool { return r == '/' })
	return "/" + strings.Join(segments, "/")
}

// sortedKeys makes walking a map repeatable.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
