package rules_test

import (
	"math"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/rules"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

func TestWeight(t *testing.T) {
	for _, x := range []struct {
		role   string
		weight float64
		milli  int64
		err    string
	}{
		{" eng/web ", 2.5, 2500, ""},
		{"eng", 0.0005, 1, ""},
		{"eng", 1e9, 1e12, ""},
		{"eng", 0.0004, 0, "Invalid weight '0.0004' of role 'eng': Weights are between 0.001 and 1e+09"},
		{"eng", 1e9 + 1, 0, "Invalid weight '1.000000001e+09' of role 'eng': Weights are between 0.001 and 1e+09"},
		{"eng", math.Inf(1), 0, "Invalid weight '+Inf' of role 'eng': Weights are between 0.001 and 1e+09"},
		{"eng", 0, 0, "Invalid weight '0' of role 'eng': Weights must be positive"},
		{"eng", -1, 0, "Invalid weight '-1' of role 'eng': Weights must be positive"},
		{"eng", math.NaN(), 0, "Invalid weight 'NaN' of role 'eng': Weights must be positive"},
		{"", 1, 0, "Invalid role '': Role names cannot be the empty string"},
		{"/eng", 1, 0, "Invalid role '/eng': Role '/eng' cannot start with a slash"},
	} {
		_, milli, err := rules.Weight(&mesos.WeightInfo{Role: &x.role, Weight: &x.weight})
		if milli != x.milli || (err == nil) != (x.err == "") || err != nil && err.Error() != x.err {
			t.Errorf("%q %g: %d, %v; want %d, %s", x.role, x.weight, milli, err, x.milli, x.err)
		}
	}
}

func TestCapable(t *testing.T) {
	in := func(region string) *mesos.DomainInfo {
		return &mesos.DomainInfo{FaultDomain: &mesos.DomainInfo_FaultDomain{Region: &mesos.DomainInfo_FaultDomain_RegionInfo{Name: &region}}}
	}
	refined := `[{"type":"static","role":"a"},{"type":"dynamic","role":"a/b"}]`
	for _, x := range []struct {
		resource ledger.Resource
		region   string
		needs    mesos.FrameworkInfo_Capability_Type
	}{
		{ledger.Resource{Key: ledger.Key{Name: "cpus"}, Milli: 1000}, "home", 0},
		{ledger.Resource{Key: ledger.Key{Name: "cpus"}, Milli: 1000}, "", 0},
		{ledger.Resource{Key: ledger.Key{Name: "cpus"}, Milli: 1000}, "away", mesos.FrameworkInfo_Capability_REGION_AWARE},
		{ledger.Resource{Key: ledger.Key{Name: "gpus"}, Milli: 1000}, "home", mesos.FrameworkInfo_Capability_GPU_RESOURCES},
		{ledger.Resource{Key: ledger.Key{Name: "cpus", Revocable: true}, Milli: 1000}, "home", mesos.FrameworkInfo_Capability_REVOCABLE_RESOURCES},
		{ledger.Resource{Key: ledger.Key{Name: "disk", Shared: true}, Milli: 1000}, "home", mesos.FrameworkInfo_Capability_SHARED_RESOURCES},
		{ledger.Resource{Key: ledger.Key{Name: "mem", Reservation: `[{"type":"static","role":"a"}]`}, Milli: 1000}, "home", 0},
		{ledger.Resource{Key: ledger.Key{Name: "mem", Reservation: refined}, Milli: 1000}, "home", mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT},
	} {
		f := &mesos.FrameworkInfo{Id: &mesos.FrameworkID{Value: proto.String("F")}}
		without := rules.Capable(f, ledger.Of(x.resource), in(x.region), in("home"))
		f.Capabilities = []*mesos.FrameworkInfo_Capability{{Type: x.needs.Enum()}}
		with := rules.Capable(f, ledger.Of(x.resource), in(x.region), in("home"))
		if (without == nil) != (x.needs == 0) || with != nil {
			t.Errorf("%+v in %q: without %s %v, with it %v", x.resource, x.region, x.needs, without, with)
		}
	}
}
