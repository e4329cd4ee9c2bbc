package rules

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

func framework(t *testing.T, text string) *mesos.FrameworkInfo {
	t.Helper()
	info := &mesos.FrameworkInfo{User: proto.String("u"), Name: proto.String("n")}
	if err := prototext.Unmarshal([]byte(`user: "u" name: "n" `+text), info); err != nil {
		t.Fatal(err)
	}
	return info
}

const multi = `capabilities { type: MULTI_ROLE } `

func TestFrameworkInfo(t *testing.T) {
	tests := map[string]struct{ info, want string }{
		"default role": {``, ""},
		"one role":     {`role: "eng"`, ""},
		"bad role":     {`role: "-eng"`, "'FrameworkInfo.role' is not a valid role: Role component '-eng' is invalid because it starts with a dash"},
		"'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable": {`roles: "eng"`, "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable"},
		"'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable":      {multi + `role: "eng"`, "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable"},
		"no roles":      {multi, ""},
		"several roles": {multi + `roles: "eng" roles: "*" roles: "eng/web"`, ""},
		"'FrameworkInfo.roles' contains duplicate items: %s":            {multi + `roles: "b" roles: "a" roles: "b" roles: "a" roles: "b"`, "'FrameworkInfo.roles' contains duplicate items: { a, b }"},
		"'FrameworkInfo.roles' contains %d roles; at most %d are taken": {multi + manyRoles(1001), "'FrameworkInfo.roles' contains 1001 roles; at most 1000 are taken"},
		"as many roles as may be":                                       {multi + manyRoles(1000), ""},
		"bad roles":                                                     {multi + `roles: "eng" roles: "a/.."`, "'FrameworkInfo.roles' contains invalid role: Role 'a/..' cannot include '..' as a component"},
		"no id yet":                                                     {`id { value: "" }`, ""},
		"bad id":                                                        {`id { value: "a/b" }`, "'a/b' contains invalid characters"},
		"long timeout":                                                  {`failover_timeout: 9e9`, ""},
		"The framework failover_timeout (%g) is invalid":                {`failover_timeout: nan`, "The framework failover_timeout (NaN) is invalid"},
		"endless timeout":                                               {`failover_timeout: inf`, "The framework failover_timeout (+Inf) is invalid"},
		"timeout out of bounds":                                         {`failover_timeout: 1e10`, "The framework failover_timeout (1e+10) is invalid"},
		"offer filters":                                                 {`offer_filters { key: "*" value { min_allocatable_resources { quantities { quantities { key: "cpus" value { value: 1 } } } } } }`, ""},
		"Resource quantities must contain at least one quantity": {`offer_filters { key: "*" value { min_allocatable_resources { quantities {} } } }`,
			"Resource quantities must contain at least one quantity"},
		"Negative values not supported": {`offer_filters { key: "*" value { min_allocatable_resources { quantities { quantities { key: "cpus" value { value: -1 } } } } } }`,
			"Invalid resource quantity for 'cpus': Negative values not supported"},
		"Infinite values not supported": {`offer_filters { key: "*" value { min_allocatable_resources { quantities { quantities { key: "cpus" value { value: inf } } } } } }`,
			"Invalid resource quantity for 'cpus': Infinite values not supported"},
		"NaN not supported": {`offer_filters { key: "*" value { min_allocatable_resources { quantities { quantities { key: "cpus" value { value: nan } } } } } }`,
			"Invalid resource quantity for 'cpus': NaN not supported"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { told(t, FrameworkInfo(framework(t, test.info)), test.want) })
	}
}

func TestRoles(t *testing.T) {
	tests := []struct {
		info string
		want []string
	}{
		{``, []string{"*"}},
		{`role: "eng"`, []string{"eng"}},
		{multi, nil},
		{multi + `roles: "b" roles: "a" roles: "b"`, []string{"a", "b"}},
	}
	for _, test := range tests {
		if got := Roles(framework(t, test.info)); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v", test.info, got)
		}
	}
}

func TestResubscribe(t *testing.T) {
	const changed = "Changing framework's principal is not allowed."
	tests := map[string]struct{ old, new, want string }{
		"nothing": {`principal: "a"`, `principal: "a"`, ""},
		"Changing framework's principal is not allowed.": {`principal: "a"`, `principal: "b"`, changed},
		"principal forgot":   {`principal: "a"`, ``, changed},
		"principal appeared": {``, `principal: ""`, changed},
		"roles":              {`role: "a"`, multi + `roles: "b"`, ""},
		"checkpoint":         {``, `checkpoint: true`, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			told(t, Resubscribe(framework(t, test.old), framework(t, test.new)), test.want)
		})
	}
}

func TestPrincipal(t *testing.T) {
	tests := map[string]struct{ info, authenticated, want string }{
		"anonymous": {`principal: "a"`, "", ""},
		"unsaid":    {``, "a", ""},
		"the same":  {`principal: "a"`, "a", ""},
		"Authenticated principal '%s' does not match principal '%s' set in `FrameworkInfo`": {`principal: "a"`, "b", "Authenticated principal 'b' does not match principal 'a' set in `FrameworkInfo`"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { told(t, Principal(framework(t, test.info), test.authenticated), test.want) })
	}
}

func TestSuppressedRoles(t *testing.T) {
	tests := map[string]struct {
		info       string
		suppressed []string
		want       string
	}{
		"none":    {`roles: "a" roles: "b"`, nil, ""},
		"all":     {`roles: "a" roles: "b"`, []string{"b", "a", "b"}, ""},
		"of none": {``, []string{"*"}, "Suppressed roles { * } are not contained in the set of roles"},
		"Suppressed roles %s are not contained in the set of roles": {`roles: "a" roles: "b"`, []string{"d", "a", "c", "d"}, "Suppressed roles { c, d } are not contained in the set of roles"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			told(t, SuppressedRoles(framework(t, multi+test.info), test.suppressed), test.want)
		})
	}
	told(t, SuppressedRoles(framework(t, ``), []string{"*"}), "")
}

func TestRefuseSeconds(t *testing.T) {
	filter := func(seconds float64) *mesos.Filters { return &mesos.Filters{RefuseSeconds: &seconds} }
	tests := map[string]struct {
		filters *mesos.Filters
		want    time.Duration
	}{
		"no filters":   {nil, 5 * time.Second},
		"unsaid":       {&mesos.Filters{}, 5 * time.Second},
		"zero":         {filter(0), 0},
		"a fraction":   {filter(0.25), 250 * time.Millisecond},
		"negative":     {filter(-1), 5 * time.Second},
		"no number":    {filter(math.NaN()), 5 * time.Second},
		"a year":       {filter(31536000), 365 * 24 * time.Hour},
		"above a year": {filter(31536001), 365 * 24 * time.Hour},
		"for ever":     {filter(math.Inf(1)), 365 * 24 * time.Hour},
		"never":        {filter(math.Inf(-1)), 5 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := RefuseSeconds(test.filters); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestFailoverTimeout(t *testing.T) {
	for text, want := range map[string]time.Duration{
		``:                          0,
		`failover_timeout: -1`:      0,
		`failover_timeout: 1.5`:     1500 * time.Millisecond,
		`failover_timeout: 604800`:  7 * 24 * time.Hour,
		`failover_timeout: 9.223e9`: time.Duration(9.223e18),
	} {
		if got := FailoverTimeout(framework(t, text)); got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}

func TestUpdateFramework(t *testing.T) {
	tests := map[string]struct{ info, more, authenticated, want string }{
		"nothing":          {`principal: "p"`, ``, "p", ""},
		"roles":            {multi + `principal: "p" roles: "a" roles: "b"`, `suppressed_roles: "b"`, "", ""},
		"timeout":          {`principal: "p" failover_timeout: 7`, ``, "", ""},
		"not a framework":  {`principal: "p" role: "/"`, ``, "", "'FrameworkInfo.role' is not a valid role: Role '/' cannot start with a slash"},
		"suppressed roles": {`principal: "p"`, `suppressed_roles: "b"`, "", "Suppressed roles { b } are not contained in the set of roles"},
		"somebody else":    {`principal: "p"`, ``, "q", "Authenticated principal 'q' does not match principal 'p' set in `FrameworkInfo`"},
		"principal":        {`principal: "q"`, ``, "", "Changing framework's principal is not allowed."},
		"Updating 'FrameworkInfo.user' is unsupported; attempted to update from '%s' to '%s'": {`principal: "p" user: "v"`, ``, "",
			"Updating 'FrameworkInfo.user' is unsupported; attempted to update from 'u' to 'v'"},
		"Updating 'FrameworkInfo.checkpoint' is unsupported; attempted to update from '%t' to '%t'": {`principal: "p" checkpoint: true`, ``, "",
			"Updating 'FrameworkInfo.checkpoint' is unsupported; attempted to update from 'false' to 'true'"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			update := &schedulerpb.Call_UpdateFramework{}
			info := `name: "n" ` + test.info
			if !strings.Contains(info, "user:") {
				info = `user: "u" ` + info
			}
			if err := prototext.Unmarshal([]byte(`framework_info { `+info+` } `+test.more), update); err != nil {
				t.Fatal(err)
			}
			told(t, UpdateFramework(framework(t, `principal: "p"`), update, test.authenticated), test.want)
		})
	}
}

// manyRoles are n different ones.
func manyRoles(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "roles: \"r%d\" ", i)
	}
	return text.String()
}

// What a client sends by the megabyte comes back in a sentence.
func TestRefusalsAreShort(t *testing.T) {
	info := framework(t, multi+manyRoles(1000))
	var strange []string
	for i := range 100_000 {
		strange = append(strange, fmt.Sprintf("strange-%d", i))
	}
	long := []string{strings.Repeat("é", 1<<20)}
	for _, suppressed := range [][]string{strange, long} {
		err := SuppressedRoles(info, suppressed)
		if err == nil || len(err.Error()) > 3000 || !utf8.ValidString(err.Error()) || !strings.Contains(err.Error(), ", ... }") {
			t.Errorf("%.200v", err)
		}
	}
}
