package rules

import (
	"math"
	"strings"
	"testing"

	"github.com/gantry-project/gantry/kernel/ledger"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

func TestWeight(t *testing.T) {
	for name, test := range map[string]struct {
		role   string
		weight float64
		milli  int64
		want   string
	}{
		"of a role below others": {" eng/web ", 2.5, 2500, ""},
		"rounded up":             {"eng", 0.0005, 1, ""},
		"the largest":            {"eng", 1e9, 1e12, ""},
		"too small":              {"eng", 0.0004, 0, "Invalid weight '0.0004' of role 'eng': Weights are between 0.001 and 1e+09"},
		"too large":              {"eng", 1e9 + 1, 0, "Invalid weight '1.000000001e+09' of role 'eng': Weights are between 0.001 and 1e+09"},
		"Invalid weight '%g' of role '%s': Weights are between 0.001 and %g": {"eng", math.Inf(1), 0, "Invalid weight '+Inf' of role 'eng': Weights are between 0.001 and 1e+09"},
		"zero":     {"eng", 0, 0, "Invalid weight '0' of role 'eng': Weights must be positive"},
		"negative": {"eng", -1, 0, "Invalid weight '-1' of role 'eng': Weights must be positive"},
		"Invalid weight '%g' of role '%s': Weights must be positive": {"eng", math.NaN(), 0, "Invalid weight 'NaN' of role 'eng': Weights must be positive"},
		"of no role":    {"", 1, 0, "Invalid role '': Role names cannot be the empty string"},
		"of a bad role": {"/eng", 1, 0, "Invalid role '/eng': Role '/eng' cannot start with a slash"},
		"the longest":   {strings.Repeat("r", 255), 1, 1000, ""},
		"Invalid role '%.40s...': it has more than %d bytes": {strings.Repeat("r", 256), 1, 0, "Invalid role '" + strings.Repeat("r", 40) + "...': it has more than 255 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, milli, err := Weight(&mesos.WeightInfo{Role: &test.role, Weight: &test.weight})
			told(t, err, test.want)
			if milli != test.milli {
				t.Errorf("%d thousandths, want %d", milli, test.milli)
			}
		})
	}
}

func TestCapable(t *testing.T) {
	in := func(region string) *mesos.DomainInfo {
		return &mesos.DomainInfo{FaultDomain: &mesos.DomainInfo_FaultDomain{Region: &mesos.DomainInfo_FaultDomain_RegionInfo{Name: &region}}}
	}
	lacks := func(what, capability string) string {
		return what + " is for frameworks with the capability " + capability + ", which framework F lacks"
	}
	const reserved = `[{"type":"static","role":"a"}]`
	const refined = `[{"type":"static","role":"a"},{"type":"dynamic","role":"a/b"}]`
	for name, test := range map[string]struct {
		key    ledger.Key
		region string
		needs  mesos.FrameworkInfo_Capability_Type
		want   string
	}{
		"plain resources":    {ledger.Key{Name: "cpus"}, "home", 0, ""},
		"of no region":       {ledger.Key{Name: "cpus"}, "", 0, ""},
		"reserved resources": {ledger.Key{Name: "mem", Reservation: reserved}, "home", 0, ""},
		"of another region":  {ledger.Key{Name: "cpus"}, "away", mesos.FrameworkInfo_Capability_REGION_AWARE, lacks("An agent in the region away", "REGION_AWARE")},
		"%s is for frameworks with the capability %s, which framework %s lacks": {ledger.Key{Name: "gpus"}, "home",
			mesos.FrameworkInfo_Capability_GPU_RESOURCES, lacks("A GPU", "GPU_RESOURCES")},
		"revocable resources": {ledger.Key{Name: "cpus", Revocable: true}, "home", mesos.FrameworkInfo_Capability_REVOCABLE_RESOURCES, lacks("Revocable cpus", "REVOCABLE_RESOURCES")},
		"shared resources":    {ledger.Key{Name: "disk", Shared: true}, "home", mesos.FrameworkInfo_Capability_SHARED_RESOURCES, lacks("Shared disk", "SHARED_RESOURCES")},
		"refined reservations": {ledger.Key{Name: "mem", Reservation: refined}, "home",
			mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT, lacks("A reservation within another", "RESERVATION_REFINEMENT")},
	} {
		t.Run(name, func(t *testing.T) {
			f := framework(t, `id { value: "F" }`)
			one := ledger.Of(ledger.Resource{Key: test.key, Milli: 1000})
			told(t, Capable(f, one, in(test.region), in("home")), test.want)
			f.Capabilities = []*mesos.FrameworkInfo_Capability{{Type: test.needs.Enum()}}
			if err := Capable(f, one, in(test.region), in("home")); err != nil {
				t.Errorf("with the capability: %v", err)
			}
		})
	}
}
