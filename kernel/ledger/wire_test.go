package ledger

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	resourcepb "github.com/gantry-project/gantry/sdk/proto/gantry/resource/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

func wireScalar(name string, value float64) *mesos.Resource {
	return &mesos.Resource{Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &value}}
}

func wireRanges(edges ...uint64) *mesos.Resource {
	r := &mesos.Resource{Name: proto.String("ports"), Type: mesos.Value_RANGES.Enum(), Ranges: &mesos.Value_Ranges{}}
	for i := 0; i < len(edges); i += 2 {
		r.Ranges.Range = append(r.Ranges.Range, &mesos.Value_Range{Begin: &edges[i], End: &edges[i+1]})
	}
	return r
}

func wireSet(items ...string) *mesos.Resource {
	return &mesos.Resource{Name: proto.String("zones"), Type: mesos.Value_SET.Enum(), Set: &mesos.Value_Set{Item: items}}
}

// with changes a resource of the wire.
func with(r *mesos.Resource, change func(*mesos.Resource)) *mesos.Resource {
	change(r)
	return r
}

func reserved(kind mesos.Resource_ReservationInfo_Type, role string) *mesos.Resource_ReservationInfo {
	return &mesos.Resource_ReservationInfo{Type: kind.Enum(), Role: &role}
}

const (
	static  = mesos.Resource_ReservationInfo_STATIC
	dynamic = mesos.Resource_ReservationInfo_DYNAMIC
)

// refused wants each resource to be refused with its text, and nothing beside.
func refused(t *testing.T, tests map[string]refusal) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := FromMesos([]*mesos.Resource{wireScalar("mem", 1), test.resource})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %s and %v, want an error with %q", got, err, test.want)
			}
			if !got.Empty() {
				t.Errorf("%s came out beside the error", got)
			}
		})
	}
}

type refusal struct {
	resource *mesos.Resource
	want     string
}

func cpus(change func(*mesos.Resource)) *mesos.Resource { return with(wireScalar("cpus", 1), change) }

func disk1(change func(*mesos.Resource)) *mesos.Resource {
	return with(wireScalar("disk", 1), func(r *mesos.Resource) {
		r.Disk = &mesos.Resource_DiskInfo{}
		change(r)
	})
}

func TestFromMesosRefusesAmounts(t *testing.T) {
	refused(t, map[string]refusal{
		"no name":            {wireScalar("", 1), "Empty resource name"},
		"no UTF-8":           {wireScalar("\xff", 1), "is not UTF-8"},
		"no type":            {cpus(func(r *mesos.Resource) { r.Type = nil }), "Invalid resource type"},
		"text":               {cpus(func(r *mesos.Resource) { r.Type = mesos.Value_TEXT.Enum() }), "Unsupported resource type"},
		"type of the future": {cpus(func(r *mesos.Resource) { r.Type = mesos.Value_Type(99).Enum() }), "Unsupported resource type"},
		"scalar without one": {cpus(func(r *mesos.Resource) { r.Scalar = nil }), "Invalid scalar resource"},
		"scalar and ranges":  {cpus(func(r *mesos.Resource) { r.Ranges = &mesos.Value_Ranges{} }), "Invalid scalar resource"},
		"negative":           {wireScalar("cpus", -0.0001), "Invalid scalar resource: value < 0"},
		"not a number":       {wireScalar("cpus", math.NaN()), "not a finite number"},
		"infinite":           {wireScalar("cpus", math.Inf(1)), "not a finite number"},
		"too much":           {wireScalar("cpus", 2e12), "value > 1000000000000"},
		"ranges without any": {with(wireRanges(), func(r *mesos.Resource) { r.Ranges = nil }), "Invalid ranges resource"},
		"inverted":           {wireRanges(2, 1), "Invalid ranges resource: begin > end"},
		"overlapping":        {wireRanges(5, 9, 1, 5), "Invalid ranges resource: overlapping ranges"},
		"set without one":    {with(wireSet(), func(r *mesos.Resource) { r.Set = nil }), "Invalid set resource"},
		"item twice":         {wireSet("a", "b", "a"), "Invalid set resource: duplicated elements"},
		"provider":           {cpus(func(r *mesos.Resource) { r.ProviderId = &mesos.ResourceProviderID{} }), "not supported"},
	})
}

func TestFromMesosRefusesReservations(t *testing.T) {
	refused(t, map[string]refusal{
		"bad role":                  {cpus(func(r *mesos.Resource) { r.Role = proto.String("a b") }), "contains backspace or whitespace"},
		"reserved dynamically to *": {cpus(func(r *mesos.Resource) { r.Reservation = &mesos.Resource_ReservationInfo{} }), "cannot be dynamically reserved"},
		"type in the old place": {cpus(func(r *mesos.Resource) {
			r.Role, r.Reservation = proto.String("eng"), reserved(dynamic, "eng")
		}), "'Resource.ReservationInfo.type' must not be set"},
		"role in the old place": {cpus(func(r *mesos.Resource) {
			r.Role, r.Reservation = proto.String("eng"), &mesos.Resource_ReservationInfo{Role: proto.String("eng")}
		}), "'Resource.ReservationInfo.role' must not be set"},
		"reservation without type": {cpus(func(r *mesos.Resource) {
			r.Reservations = []*mesos.Resource_ReservationInfo{{Role: proto.String("eng")}}
		}), "'Resource.ReservationInfo.type' field must be set"},
		"reservation of unknown type": {cpus(func(r *mesos.Resource) {
			r.Reservations = []*mesos.Resource_ReservationInfo{reserved(0, "eng")}
		}), "Unsupported 'Resource.ReservationInfo.Type'"},
		"reservation without role": {cpus(func(r *mesos.Resource) {
			r.Reservations = []*mesos.Resource_ReservationInfo{{Type: static.Enum()}}
		}), "'Resource.ReservationInfo.role' field must be set"},
		"reservation of a bad role": {cpus(func(r *mesos.Resource) {
			r.Reservations = []*mesos.Resource_ReservationInfo{reserved(static, "/eng")}
		}), "cannot start with a slash"},
		"reserved to *": {cpus(func(r *mesos.Resource) {
			r.Reservations = []*mesos.Resource_ReservationInfo{reserved(static, "*")}
		}), "cannot be reserved"},
		"static refinement": {cpus(func(r *mesos.Resource) {
			r.Reservations = []*mesos.Resource_ReservationInfo{reserved(static, "eng"), reserved(static, "eng/web")}
		}), "A refined reservation cannot be STATIC"},
		"no refinement": {cpus(func(r *mesos.Resource) {
			r.Reservations = []*mesos.Resource_ReservationInfo{reserved(static, "eng"), reserved(dynamic, "engine")}
		}), "role 'engine' is not a refinement of 'eng'"},
		"role beside refinements": {cpus(func(r *mesos.Resource) {
			r.Role = proto.String("eng/web")
			r.Reservations = []*mesos.Resource_ReservationInfo{reserved(static, "eng"), reserved(dynamic, "eng/web")}
		}), "'Resource.role' must not be set"},
		"reservation beside refinements": {cpus(func(r *mesos.Resource) {
			r.Reservation = &mesos.Resource_ReservationInfo{}
			r.Reservations = []*mesos.Resource_ReservationInfo{reserved(static, "eng"), reserved(dynamic, "eng/web")}
		}), "'Resource.reservation' must not be set"},
		"formats with two roles": {cpus(func(r *mesos.Resource) {
			r.Role = proto.String("ops")
			r.Reservations = []*mesos.Resource_ReservationInfo{reserved(static, "eng")}
		}), "does not match the role 'eng'"},
		"static in one format, dynamic in the other": {cpus(func(r *mesos.Resource) {
			r.Role, r.Reservation = proto.String("eng"), &mesos.Resource_ReservationInfo{}
			r.Reservations = []*mesos.Resource_ReservationInfo{reserved(static, "eng")}
		}), "is STATIC"},
		"dynamic with half of the old format": {cpus(func(r *mesos.Resource) {
			r.Role = proto.String("eng")
			r.Reservations = []*mesos.Resource_ReservationInfo{reserved(dynamic, "eng")}
		}), "either be both set or both not set"},
		"formats with two principals": {cpus(func(r *mesos.Resource) {
			r.Role, r.Reservation = proto.String("eng"), &mesos.Resource_ReservationInfo{Principal: proto.String("a")}
			r.Reservations = []*mesos.Resource_ReservationInfo{reserved(dynamic, "eng")}
		}), "does not match the principal"},
		"formats with two labels": {cpus(func(r *mesos.Resource) {
			r.Role, r.Reservation = proto.String("eng"), &mesos.Resource_ReservationInfo{Labels: &mesos.Labels{Labels: []*mesos.Label{{Key: proto.String("k")}}}}
			r.Reservations = []*mesos.Resource_ReservationInfo{reserved(dynamic, "eng")}
		}), "does not match the labels"},
	})
}

func TestFromMesosRefusesDisks(t *testing.T) {
	refused(t, map[string]refusal{
		"disk info of cpus": {cpus(func(r *mesos.Resource) { r.Disk = &mesos.Resource_DiskInfo{} }), "DiskInfo should not be set for cpus"},
		"disk of unknown source": {disk1(func(r *mesos.Resource) {
			r.Disk.Source = &mesos.Resource_DiskInfo_Source{}
		}), "Unsupported 'DiskInfo.Source.Type'"},
		"block disk with a mount": {disk1(func(r *mesos.Resource) {
			r.Disk.Source = &mesos.Resource_DiskInfo_Source{Type: mesos.Resource_DiskInfo_Source_BLOCK.Enum(), Mount: &mesos.Resource_DiskInfo_Source_Mount{}}
		}), "Mount should not be set for BLOCK"},
		"raw disk with a path": {disk1(func(r *mesos.Resource) {
			r.Disk.Source = &mesos.Resource_DiskInfo_Source{Type: mesos.Resource_DiskInfo_Source_RAW.Enum(), Path: &mesos.Resource_DiskInfo_Source_Path{}}
		}), "Path should not be set for RAW"},
		"volume with an image": {disk1(func(r *mesos.Resource) {
			r.Disk.Volume = &mesos.Volume{Mode: mesos.Volume_RW.Enum(), Image: &mesos.Image{}}
		}), "not supported as a disk resource"},
		"shared cpus":       {cpus(func(r *mesos.Resource) { r.Shared = &mesos.Resource_SharedInfo{} }), "Resource cpus cannot be shared"},
		"shared plain disk": {disk1(func(r *mesos.Resource) { r.Shared = &mesos.Resource_SharedInfo{} }), "Only persistent volumes can be shared"},
	})
}

func TestFromMesosReads(t *testing.T) {
	tests := map[string]struct {
		list []*mesos.Resource
		want string
	}{
		"nothing":             {nil, ""},
		"zero":                {[]*mesos.Resource{wireScalar("cpus", 0), wireRanges(), wireSet()}, ""},
		"rounded away":        {[]*mesos.Resource{wireScalar("cpus", 0.0004999)}, ""},
		"rounded up":          {[]*mesos.Resource{wireScalar("cpus", 0.0005)}, "cpus:0.001"},
		"a tenth three times": {[]*mesos.Resource{wireScalar("cpus", 0.1), wireScalar("cpus", 0.1), wireScalar("cpus", 0.1)}, "cpus:0.3"},
		"joined ranges":       {[]*mesos.Resource{wireRanges(5, 9, 1, 4), wireRanges(9, 12)}, "ports:[1-12]"},
		"old static":          {[]*mesos.Resource{with(wireScalar("cpus", 1), func(r *mesos.Resource) { r.Role = proto.String("eng") })}, "cpus(eng):1"},
		"both formats": {[]*mesos.Resource{with(wireScalar("cpus", 1), func(r *mesos.Resource) {
			r.Role = proto.String("eng")
			r.Reservations = []*mesos.Resource_ReservationInfo{reserved(static, "eng")}
		})}, "cpus(eng):1"},
		"allocated": {[]*mesos.Resource{with(wireScalar("cpus", 1), func(r *mesos.Resource) {
			r.AllocationInfo = &mesos.Resource_AllocationInfo{Role: proto.String("eng")}
		})}, "cpus:1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := FromMesos(test.list)
			if err != nil || !got.Equal(parsed(t, test.want)) {
				t.Errorf("got %s, %v; want %s", got, err, test.want)
			}
		})
	}
}

func TestOldDynamicReservationEqualsTheNew(t *testing.T) {
	labels := &mesos.Labels{Labels: []*mesos.Label{{Key: proto.String("b")}, {Key: proto.String("a"), Value: proto.String("")}}}
	swapped := &mesos.Labels{Labels: []*mesos.Label{labels.Labels[1], labels.Labels[0]}}
	old := with(wireScalar("cpus", 1), func(r *mesos.Resource) {
		r.Role, r.Reservation = proto.String("eng"), &mesos.Resource_ReservationInfo{Principal: proto.String("ops"), Labels: labels}
	})
	new := with(wireScalar("cpus", 1), func(r *mesos.Resource) {
		info := reserved(dynamic, "eng")
		info.Principal, info.Labels = proto.String("ops"), swapped
		r.Reservations = []*mesos.Resource_ReservationInfo{info}
	})
	a, err := FromMesos([]*mesos.Resource{old})
	if err != nil {
		t.Fatal(err)
	}
	b, err := FromMesos([]*mesos.Resource{new})
	if err != nil {
		t.Fatal(err)
	}
	if !a.Equal(b) {
		t.Errorf("%s and %s differ", a, b)
	}
	if got, want := a.String(), `cpus(dynamic eng by ops [{"key":"a","value":""},{"key":"b"}]):1`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestWireRoundTrip: what came in goes out again, field by field.
func TestWireRoundTrip(t *testing.T) {
	label := &mesos.Labels{Labels: []*mesos.Label{{Key: proto.String("k"), Value: proto.String("v")}}}
	refined := []*mesos.Resource_ReservationInfo{
		reserved(static, "eng"),
		{Type: dynamic.Enum(), Role: proto.String("eng/web"), Principal: proto.String(""), Labels: label},
		{Type: dynamic.Enum(), Role: proto.String("eng/web/<ü>"), Labels: &mesos.Labels{}},
	}
	volume := &mesos.Resource_DiskInfo{
		Persistence: &mesos.Resource_DiskInfo_Persistence{Id: proto.String("db"), Principal: proto.String("ops")},
		Volume:      &mesos.Volume{Mode: mesos.Volume_RO.Enum(), ContainerPath: proto.String("data"), HostPath: proto.String("/data")},
		Source: &mesos.Resource_DiskInfo_Source{
			Type: mesos.Resource_DiskInfo_Source_MOUNT.Enum(), Mount: &mesos.Resource_DiskInfo_Source_Mount{Root: proto.String("/mnt")},
			Vendor: proto.String("v"), Id: proto.String("i"), Profile: proto.String("p"), Metadata: label,
		},
	}
	path := &mesos.Resource_DiskInfo{Source: &mesos.Resource_DiskInfo_Source{
		Type: mesos.Resource_DiskInfo_Source_PATH.Enum(), Path: &mesos.Resource_DiskInfo_Source_Path{},
	}}
	tests := map[string]*mesos.Resource{
		"scalar":     wireScalar("cpus", 1.001),
		"ranges":     wireRanges(1, 2, 4, math.MaxUint64),
		"set":        wireSet("a", "b"),
		"revocable":  with(wireScalar("cpus", 1), func(r *mesos.Resource) { r.Revocable = &mesos.Resource_RevocableInfo{} }),
		"refined":    with(wireScalar("cpus", 1), func(r *mesos.Resource) { r.Reservations = refined }),
		"path disk":  with(wireScalar("disk", 1), func(r *mesos.Resource) { r.Disk = path }),
		"empty disk": with(wireScalar("disk", 1), func(r *mesos.Resource) { r.Disk = &mesos.Resource_DiskInfo{} }),
		"shared volume": with(wireScalar("disk", 64), func(r *mesos.Resource) {
			r.Reservations, r.Disk, r.Shared = refined, volume, &mesos.Resource_SharedInfo{}
		}),
	}
	for name, r := range tests {
		t.Run(name, func(t *testing.T) {
			in, err := FromMesos([]*mesos.Resource{r})
			if err != nil {
				t.Fatal(err)
			}
			if out := in.Mesos(""); len(out) != 1 || !proto.Equal(out[0], r) {
				t.Errorf("got  %v\nwant %v", out, r)
			}
			allocated := proto.CloneOf(r)
			allocated.AllocationInfo = &mesos.Resource_AllocationInfo{Role: proto.String("eng")}
			if out := in.Mesos("eng"); !proto.Equal(out[0], allocated) {
				t.Errorf("got  %v\nwant %v", out, allocated)
			}
			if back, err := FromContract(in.Contract()); err != nil || !back.Equal(in) {
				t.Errorf("by contract: %s, %v", back, err)
			}
		})
	}
}

func TestEveryWireKeepsEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := someResources.Draw(t, "resources")
		if back, err := FromMesos(r.Mesos("eng")); err != nil || !back.Equal(r) {
			t.Fatalf("%s came back as %s, %v", r, back, err)
		}
		if back, err := FromMesos(r.MesosPlain("eng")); err != nil || !back.Equal(r) {
			t.Fatalf("%s came back as %s, %v", r, back, err)
		}
		if back, err := FromContract(r.Contract()); err != nil || !back.Equal(r) {
			t.Fatalf("%s came back as %s, %v", r, back, err)
		}
	})
}

func TestPlainFormat(t *testing.T) {
	dyn := `[{"type":"dynamic","role":"eng","principal":"ops"}]`
	tests := map[string]struct {
		reservation, role string
		dynamic, refined  bool
	}{
		"unreserved": {"", "*", false, false},
		"static":     {eng, "eng", false, false},
		"dynamic":    {dyn, "eng", true, false},
		"refined":    {engWeb, "", false, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := Of(Resource{Key: Key{Name: "cpus", Reservation: test.reservation}, Milli: 1})
			w := r.MesosPlain("eng")[0]
			said := ""
			if w.Role != nil {
				said = *w.Role
			}
			if said != test.role || (w.Reservation != nil) != test.dynamic || (w.Reservations != nil) != test.refined {
				t.Errorf("got %v", w)
			}
			if w.GetAllocationInfo().GetRole() != "eng" {
				t.Errorf("allocated to %v", w.GetAllocationInfo())
			}
			if back, err := FromMesos([]*mesos.Resource{w}); err != nil || !back.Equal(r) {
				t.Errorf("%s came back as %s, %v", r, back, err)
			}
		})
	}
}

func TestFromContractRefuses(t *testing.T) {
	tests := map[string]struct {
		resource *resourcepb.Resource
		want     string
	}{
		"no name":                     {&resourcepb.Resource{Milli: 1}, "no name"},
		"negative":                    {&resourcepb.Resource{Name: "cpus", Milli: -1}, "negative"},
		"too much":                    {&resourcepb.Resource{Name: "cpus", Milli: math.MaxInt64}, "more than"},
		"two amounts":                 {&resourcepb.Resource{Name: "cpus", Milli: 1, Items: []string{"a"}}, "more than one kind"},
		"inverted":                    {&resourcepb.Resource{Name: "ports", Ranges: []*resourcepb.Range{{Begin: 2, End: 1}}}, "inverted"},
		"overlapping":                 {&resourcepb.Resource{Name: "ports", Ranges: []*resourcepb.Range{{Begin: 1, End: 2}, {Begin: 2, End: 3}}}, "overlap"},
		"item twice":                  {&resourcepb.Resource{Name: "zones", Items: []string{"a", "a"}}, "twice"},
		"reservation is a role":       {&resourcepb.Resource{Name: "cpus", Milli: 1, Reservation: "eng"}, `reservation "eng"`},
		"reservation is empty":        {&resourcepb.Resource{Name: "cpus", Milli: 1, Reservation: "[]"}, "the list is empty"},
		"reservation of unknown type": {&resourcepb.Resource{Name: "cpus", Milli: 1, Reservation: `[{"type":"x","role":"eng"}]`}, "Unsupported"},
		"reservation with a space":    {&resourcepb.Resource{Name: "cpus", Milli: 1, Reservation: `[{"type":"static", "role":"eng"}]`}, "not canonical"},
		"disk with a space":           {&resourcepb.Resource{Name: "disk", Milli: 1, Disk: `{ }`}, "not canonical"},
		"disk of unknown mode":        {&resourcepb.Resource{Name: "disk", Milli: 1, Disk: `{"volume":{"mode":"","containerPath":""}}`}, "mode"},
		"disk is no JSON":             {&resourcepb.Resource{Name: "disk", Milli: 1, Disk: `x`}, "disk \"x\""},
		"volume of cpus":              {&resourcepb.Resource{Name: "cpus", Milli: 1, Disk: `{}`}, "no disk"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := FromContract([]*resourcepb.Resource{test.resource})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %s and %v, want an error with %q", got, err, test.want)
			}
		})
	}
	half := &resourcepb.Resource{Name: "cpus", Milli: maxMilli/2 + 1}
	if got, err := FromContract([]*resourcepb.Resource{half, half}); err == nil {
		t.Errorf("two halves that are too much came out as %s", got)
	}
}

func TestAllocationRole(t *testing.T) {
	to := func(role string) *mesos.Resource {
		return with(wireScalar("cpus", 1), func(r *mesos.Resource) { r.AllocationInfo = &mesos.Resource_AllocationInfo{Role: &role} })
	}
	tests := map[string]struct {
		list []*mesos.Resource
		role string
		fail bool
	}{
		"none":      {nil, "", false},
		"unsaid":    {[]*mesos.Resource{wireScalar("cpus", 1)}, "", false},
		"one":       {[]*mesos.Resource{to("eng"), to("eng")}, "eng", false},
		"half said": {[]*mesos.Resource{wireScalar("cpus", 1), to("eng")}, "eng", false},
		"two":       {[]*mesos.Resource{to("eng"), to("ops")}, "", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if role, err := AllocationRole(test.list); role != test.role || (err != nil) != test.fail {
				t.Errorf("got %q, %v", role, err)
			}
		})
	}
}

func TestCheckRole(t *testing.T) {
	for _, role := range []string{"*", "a", "a/b", "ä", "a-b", "a.b", "...", "a?b=c"} {
		if err := CheckRole(role); err != nil {
			t.Errorf("%q: %v", role, err)
		}
	}
	for _, role := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "a/..", "a/*", "-a", "a/-b", "a b", "a\tb", "a\x7f"} {
		if CheckRole(role) == nil {
			t.Errorf("%q is accepted", role)
		}
	}
}

// FuzzFromMesos: whatever the bytes, resources are refused or hold exactly what they
// say, and come back the same from both wires.
func FuzzFromMesos(f *testing.F) {
	seeds := [][]*mesos.Resource{
		{wireScalar("cpus", 0.0005), wireRanges(1, 2), wireSet("a")},
		{with(wireScalar("disk", 1), func(r *mesos.Resource) {
			r.Disk = &mesos.Resource_DiskInfo{Persistence: &mesos.Resource_DiskInfo_Persistence{Id: proto.String("\xff")}}
			r.Reservations = []*mesos.Resource_ReservationInfo{reserved(static, "eng"), reserved(dynamic, "eng/web")}
		})},
	}
	for _, list := range seeds {
		bytes, err := proto.Marshal(&mesos.Offer_Operation_Reserve{Resources: list})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes)
	}
	f.Fuzz(func(t *testing.T, bytes []byte) {
		var carrier mesos.Offer_Operation_Reserve
		if proto.Unmarshal(bytes, &carrier) != nil {
			return
		}
		r, err := FromMesos(carrier.Resources)
		if err != nil {
			return
		}
		if err := checkNormal(r); err != nil {
			t.Fatal(err)
		}
		if back, err := FromMesos(r.Mesos("")); err != nil || !back.Equal(r) {
			t.Fatalf("%s came back as %s, %v", r, back, err)
		}
		if back, err := FromContract(r.Contract()); err != nil || !back.Equal(r) {
			t.Fatalf("%s came back as %s, %v", r, back, err)
		}
		if rest, ok := r.Plus(r).Minus(r); ok && !r.Contains(rest) {
			t.Fatalf("twice %s less once is %s", r, rest)
		}
	})
}

// FuzzMilli: a scalar is at most half a thousandth off, and what left the ledger once
// never changes again.
func FuzzMilli(f *testing.F) {
	for _, v := range []float64{0, 0.1, 0.0005, 1.0015, 999999999999.999, math.MaxFloat64, math.SmallestNonzeroFloat64} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, value float64) {
		milli, err := milliOf(value)
		if err != nil {
			if value >= 0 && value <= maxMilli/1000 {
				t.Fatalf("%g is refused: %v", value, err)
			}
			return
		}
		if off := math.Abs(float64(milli)/1000 - value); off > 0.0005+value*1e-15 {
			t.Fatalf("%g became %d thousandths", value, milli)
		}
		if again, err := milliOf(float64(milli) / 1000); err != nil || again != milli {
			t.Fatalf("%d thousandths came back as %d, %v", milli, again, err)
		}
	})
}
