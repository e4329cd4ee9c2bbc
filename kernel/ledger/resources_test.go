package ledger

import (
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// flat is the naive model of Resources: thousandths for every scalar (its name ends in
// "~"), and 1 for every number and item. What real resources do in one sweep it does unit by unit.
type flat map[string]int64

func flatten(r Resources) flat {
	f := flat{}
	for have := range r.All() {
		at := fmt.Sprintf("%s|%s|%s|%t|%t", have.Name, have.Reservation, have.Disk, have.Revocable, have.Shared)
		for _, g := range have.Ranges {
			for n := g.Begin; ; n++ {
				f[fmt.Sprintf("%s#%d", at, n)] = 1
				if n == g.End {
					break
				}
			}
		}
		for _, item := range have.Items {
			f[at+"="+item] = 1
		}
		if have.Milli != 0 {
			f[at+"~"] = have.Milli
		}
	}
	return f
}

func (f flat) contains(o flat) bool {
	for at, n := range o {
		if f[at] < n {
			return false
		}
	}
	return true
}

// minus expects f to contain o.
func (f flat) minus(o flat) flat {
	rest := maps.Clone(f)
	for at, n := range o {
		if rest[at] -= n; rest[at] == 0 {
			delete(rest, at)
		}
	}
	return rest
}

const (
	eng    = `[{"type":"static","role":"eng"}]`
	engWeb = `[{"type":"static","role":"eng"},{"type":"dynamic","role":"eng/web","principal":"ops"}]`
)

// someResource draws from so few names and numbers that collisions are the rule. "odd"
// is a scalar here and a set there.
var someResource = rapid.Custom(func(t *rapid.T) Resource {
	r := Resource{Key: Key{
		Name:        rapid.SampledFrom([]string{"cpus", "mem", "odd", "ports", "zones"}).Draw(t, "name"),
		Reservation: rapid.SampledFrom([]string{"", "", eng, engWeb}).Draw(t, "reservation"),
		Revocable:   rapid.IntRange(0, 9).Draw(t, "revocable") == 0,
	}}
	kind := map[string]string{"cpus": "scalar", "mem": "scalar", "ports": "ranges", "zones": "items"}[r.Name]
	if kind == "" {
		kind = rapid.SampledFrom([]string{"scalar", "ranges", "items"}).Draw(t, "kind")
	}
	switch kind {
	case "scalar":
		r.Milli = rapid.Int64Range(0, 5000).Draw(t, "milli")
	case "ranges":
		edge := rapid.SampledFrom([]uint64{0, 100, math.MaxUint64 - 30}).Draw(t, "edge")
		for range rapid.IntRange(0, 4).Draw(t, "ranges") {
			begin := edge + rapid.Uint64Range(0, 20).Draw(t, "begin")
			r.Ranges = append(r.Ranges, Range{begin, begin + rapid.Uint64Range(0, 10).Draw(t, "length")})
		}
	case "items":
		r.Items = rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 4).Draw(t, "items")
	}
	return r
})

var someResources = rapid.Custom(func(t *rapid.T) Resources {
	return Of(rapid.SliceOfN(someResource, 0, 6).Draw(t, "list")...)
})

// partOf draws something that whole contains.
func partOf(t *rapid.T, whole Resources) Resources {
	var part []Resource
	for r := range whole.All() {
		if rapid.IntRange(0, 2).Draw(t, "skip") == 0 {
			continue
		}
		if r.Milli > 0 {
			r.Milli = rapid.Int64Range(0, r.Milli).Draw(t, "milli")
		}
		var cut []Range
		for _, g := range r.Ranges {
			begin := rapid.Uint64Range(g.Begin, g.End).Draw(t, "begin")
			cut = append(cut, Range{begin, rapid.Uint64Range(begin, g.End).Draw(t, "end")})
		}
		r.Ranges = cut
		r.Items = slices.DeleteFunc(slices.Clone(r.Items), func(string) bool { return rapid.Bool().Draw(t, "drop") })
		part = append(part, r)
	}
	return Of(part...)
}

func TestArithmeticAgreesWithTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := someResources.Draw(t, "a"), someResources.Draw(t, "b")
		fa, fb := flatten(a), flatten(b)

		sum := fa.minus(nil)
		for at, n := range fb {
			if strings.HasSuffix(at, "~") {
				sum[at] += n
			} else {
				sum[at] = 1 // a number or an item counts once
			}
		}
		if got := flatten(a.Plus(b)); !maps.Equal(got, sum) {
			t.Fatalf("%s plus %s is %s, want %v", a, b, a.Plus(b), sum)
		}
		if got := a.Contains(b); got != fa.contains(fb) {
			t.Fatalf("%s contains %s: %t", a, b, got)
		}
		rest, ok := a.Minus(b)
		switch {
		case ok != fa.contains(fb):
			t.Fatalf("%s minus %s: %t", a, b, ok)
		case ok && !maps.Equal(flatten(rest), fa.minus(fb)):
			t.Fatalf("%s minus %s is %s", a, b, rest)
		case !ok && !rest.Equal(a):
			t.Fatalf("%s minus %s, refused, left %s", a, b, rest)
		}
		for _, r := range []Resources{a.Plus(b), rest} {
			if err := checkNormal(r); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestArithmeticLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := someResources.Draw(t, "a"), someResources.Draw(t, "b")
		part := partOf(t, a)
		rest, ok := a.Minus(part)
		if !ok || !rest.Plus(part).Equal(a) {
			t.Fatalf("%s minus %s is %s, and back %s", a, part, rest, rest.Plus(part))
		}
		if !a.Plus(b).Equal(b.Plus(a)) {
			t.Fatal("the order of a sum matters")
		}
		if !a.Contains(Resources{}) || !a.Plus(Resources{}).Equal(a) || !a.Contains(a) {
			t.Fatal("nothing is something")
		}
		if got := a.Equal(b); got != maps.Equal(flatten(a), flatten(b)) {
			t.Fatalf("%s equals %s: %t", a, b, got)
		}
		if got := Of(slices.Collect(a.All())...); !got.Equal(a) {
			t.Fatalf("%s is not normal", a)
		}
	})
}

func TestPlusKeepsItsOperands(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := someResources.Draw(t, "a"), someResources.Draw(t, "b")
		fa, fb := flatten(a), flatten(b)
		a.Plus(b)
		a.Minus(partOf(t, a))
		if !maps.Equal(flatten(a), fa) || !maps.Equal(flatten(b), fb) {
			t.Fatal("resources changed")
		}
	})
}

func TestOfPanicsOnBrokenValues(t *testing.T) {
	broken := map[string]Resource{
		"negative":      {Key: Key{Name: "cpus"}, Milli: -1},
		"inverted":      {Key: Key{Name: "ports"}, Ranges: []Range{{2, 1}}},
		"two amounts":   {Key: Key{Name: "ports"}, Milli: 1, Ranges: []Range{{1, 2}}},
		"not canonical": {Key: Key{Name: "cpus", Reservation: "eng"}, Milli: 1},
	}
	for name, r := range broken {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			Of(r)
		})
	}
}

func TestRangesMeetTheLargestNumber(t *testing.T) {
	ports := func(list ...Range) Resources { return Of(Resource{Key: Key{Name: "ports"}, Ranges: list}) }
	all := ports(Range{0, math.MaxUint64})
	if got := ports(Range{0, math.MaxUint64 - 1}, Range{math.MaxUint64, math.MaxUint64}); !got.Equal(all) {
		t.Errorf("joined: %s", got)
	}
	rest, ok := all.Minus(ports(Range{0, 0}, Range{5, math.MaxUint64}))
	if want := ports(Range{1, 4}); !ok || !rest.Equal(want) {
		t.Errorf("left: %s, want %s", rest, want)
	}
	if rest, ok := all.Minus(all); !ok || !rest.Empty() {
		t.Errorf("left: %s", rest)
	}
}

func TestSumsDoNotWrapAround(t *testing.T) {
	most := Of(Resource{Key: Key{Name: "cpus"}, Milli: math.MaxInt64})
	if got := most.Plus(most).Scalar("cpus"); got != math.MaxInt64 {
		t.Errorf("got %d", got)
	}
}

func TestScalarSumsOverReservations(t *testing.T) {
	r, err := Parse("cpus:1.5;cpus(eng):2;mem:7")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Scalar("cpus"); got != 3500 {
		t.Errorf("cpus: %d", got)
	}
	if got := r.Scalar("gpus"); got != 0 {
		t.Errorf("gpus: %d", got)
	}
}

func TestOfferableTo(t *testing.T) {
	plain := Resource{Key: Key{Name: "cpus"}, Milli: 1000}
	static := Resource{Key: Key{Name: "cpus", Reservation: eng}, Milli: 1000}
	refined := Resource{Key: Key{Name: "cpus", Reservation: engWeb}, Milli: 1000}
	tests := []struct {
		resources Resources
		role      string
		want      bool
	}{
		{Of(), "", true},
		{Of(plain), "*", true},
		{Of(plain), "eng", true},
		{Of(static), "*", false},
		{Of(static), "eng", true},
		{Of(static), "eng/web", true},
		{Of(static), "engine", false},
		{Of(refined), "eng", false},
		{Of(refined), "eng/web", true},
		{Of(refined), "eng/web/blue", true},
		{Of(refined), "eng/db", false},
		{Of(plain, static, refined), "eng/web", true},
		{Of(plain, static, refined), "eng", false},
	}
	for _, test := range tests {
		if got := test.resources.OfferableTo(test.role); got != test.want {
			t.Errorf("%s to %q: %t", test.resources, test.role, got)
		}
	}
}

func TestVolumesAreLentWhole(t *testing.T) {
	disk := func(text string, milli int64) Resources {
		return Of(Resource{Key: Key{Name: "disk", Reservation: eng, Disk: text}, Milli: milli})
	}
	tests := map[string]struct {
		disk  string
		whole bool
	}{
		"persistent volume":     {`{"persistence":{"id":"db"},"volume":{"mode":"RW","containerPath":"data"}}`, true},
		"mount disk":            {`{"source":{"type":"MOUNT","mount":{"root":"/mnt/1"}}}`, true},
		"block disk":            {`{"source":{"type":"BLOCK"}}`, true},
		"raw disk with an id":   {`{"source":{"type":"RAW","id":"1"}}`, true},
		"raw disk of a profile": {`{"source":{"type":"RAW","profile":"fast"}}`, false},
		"path disk":             {`{"source":{"type":"PATH","path":{"root":"/data"}}}`, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := disk(test.disk, 1000).Contains(disk(test.disk, 400)); got == test.whole {
				t.Errorf("contains a part: %t", got)
			}
			if rest, ok := disk(test.disk, 1000).Minus(disk(test.disk, 1000)); !ok || !rest.Empty() {
				t.Errorf("minus the whole: %s, %t", rest, ok)
			}
		})
	}
}

// Of many resources of one kind every one is looked at a few times, not once for each
// other: four times as many cost four times the memory, not sixteen times.
func TestOfManyOfOneKindCostsNoMoreThanTheirNumber(t *testing.T) {
	for name, one := range map[string]func(i int) Resource{
		"items": func(i int) Resource { return Resource{Key: Key{Name: "zones"}, Items: []string{fmt.Sprint(i)}} },
		"ranges": func(i int) Resource {
			return Resource{Key: Key{Name: "ports"}, Ranges: []Range{{uint64(3 * i), uint64(3 * i)}}}
		},
	} {
		bytes := func(n int) float64 {
			list := make([]Resource, n)
			for i := range list {
				list[i] = one(i)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got := Of(list...)
			runtime.ReadMemStats(&after)
			if all := slices.Collect(got.All()); len(all) != 1 || len(all[0].Items)+len(all[0].Ranges) != n {
				t.Errorf("%d %s became %d resources", n, name, len(all))
			}
			return float64(after.TotalAlloc - before.TotalAlloc)
		}
		if growth := bytes(8000) / bytes(2000); growth > 8 {
			t.Errorf("four times as many %s cost %.1f times the memory", name, growth)
		}
	}
}
