package offer

import (
	"testing"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

func TestAttributesAreCompared(t *testing.T) {
	for want, a := range map[string]*mesos.Attribute{
		"1.5":       {Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: new(1.5)}},
		"2":         {Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: new(2.0)}},
		"east":      {Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: new("east")}},
		"{a,b}":     {Type: mesos.Value_SET.Enum(), Set: &mesos.Value_Set{Item: []string{"b", "a"}}},
		"[1-2,5-9]": {Type: mesos.Value_RANGES.Enum(), Ranges: &mesos.Value_Ranges{Range: []*mesos.Value_Range{span(5, 9), span(1, 2)}}},
	} {
		if got := attributeText(a); got != want {
			t.Errorf("an attribute reads %q, not %q", got, want)
		}
	}
}

func span(first, last uint64) *mesos.Value_Range {
	return &mesos.Value_Range{Begin: &first, End: &last}
}

func TestPoolCutsReservedFirst(t *testing.T) {
	scalar := func(value float64, reservations ...*mesos.Resource_ReservationInfo) *mesos.Resource {
		return &mesos.Resource{
			Name: new("cpus"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &value},
			AllocationInfo: &mesos.Resource_AllocationInfo{Role: new("prod")}, Reservations: reservations,
		}
	}
	reserved := &mesos.Resource_ReservationInfo{Role: new("prod")}
	revocable := scalar(9)
	revocable.Revocable = &mesos.Resource_RevocableInfo{}
	p := NewPool([]*mesos.Resource{scalar(1), revocable, scalar(0.3, reserved)})
	if p.Left("cpus") != 1300 {
		t.Fatalf("the pool holds %d thousandths", p.Left("cpus"))
	}
	cuts := p.Take("cpus", 500)
	if len(cuts) != 2 || cuts[0].GetScalar().GetValue() != 0.3 || len(cuts[0].GetReservations()) != 1 || cuts[1].GetScalar().GetValue() != 0.2 {
		t.Errorf("half a cpu is cut as %v", cuts)
	}
	if cuts[1].GetAllocationInfo().GetRole() != "prod" {
		t.Errorf("the cut lost its role: %v", cuts[1])
	}
	if p.Left("cpus") != 800 {
		t.Errorf("%d thousandths are left", p.Left("cpus"))
	}
}

func TestPorts(t *testing.T) {
	ports := &mesos.Resource{Name: new("ports"), Type: mesos.Value_RANGES.Enum(),
		Ranges: &mesos.Value_Ranges{Range: []*mesos.Value_Range{span(100, 101), span(105, 105)}}}
	for seed := range uint64(5) {
		p := NewPool([]*mesos.Resource{ports})
		got, ok := p.ChoosePorts(make([]int, 3), false, seed)
		if !ok || got[0] == got[1] || got[1] == got[2] || got[0] == got[2] {
			t.Fatalf("three of three ports are %v", got)
		}
		p.TakePorts(got)
		if _, ok := p.ChoosePorts(make([]int, 1), false, 0); ok {
			t.Fatal("a fourth port was found")
		}
	}
	p := NewPool([]*mesos.Resource{ports})
	for seed := range uint64(5) {
		got, ok := p.ChoosePorts([]int{0, 105}, true, seed)
		if !ok || got[1] != 105 || got[0] == 105 {
			t.Errorf("one port and 105 are %v", got)
		}
	}
	if _, ok := p.ChoosePorts([]int{80}, true, 0); ok {
		t.Error("a required port that is not offered was found")
	}
}

func TestPlaces(t *testing.T) {
	p := PlaceOf(&mesos.Offer{
		Hostname: new("here"), Attributes: []*mesos.Attribute{{Name: new("rack"), Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: new("r1")}}},
		Domain: &mesos.DomainInfo{FaultDomain: &mesos.DomainInfo_FaultDomain{Zone: &mesos.DomainInfo_FaultDomain_ZoneInfo{Name: new("z")}}},
	})
	for name, want := range map[string]string{"hostname": "here", "@hostname": "here", "@zone": "z", "rack": "r1"} {
		if got, ok := p.Field(name); !ok || got != want {
			t.Errorf("%s is %q (%v), want %q", name, got, ok, want)
		}
	}
	for _, name := range []string{"@region", "shelf"} {
		if got, ok := p.Field(name); ok {
			t.Errorf("%s is %q, want none", name, got)
		}
	}
}
