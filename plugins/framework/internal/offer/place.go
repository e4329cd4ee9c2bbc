package offer

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Place is where an offer comes from.
type Place struct {
	Host, Region, Zone string
	// Attributes of the agent, each as the text that constraints compare.
	Attributes map[string]string
}

// PlaceOf reads an offer.
func PlaceOf(o *mesos.Offer) Place {
	domain := o.GetDomain().GetFaultDomain()
	p := Place{
		Host: o.GetHostname(), Region: domain.GetRegion().GetName(), Zone: domain.GetZone().GetName(),
		Attributes: map[string]string{},
	}
	for _, attribute := range o.GetAttributes() {
		p.Attributes[attribute.GetName()] = attributeText(attribute)
	}
	return p
}

// Field is what a constraint is about: hostname, @region, @zone or an attribute; false
// when the place has none.
func (p Place) Field(name string) (string, bool) {
	switch name {
	case "hostname", "@hostname":
		return p.Host, true
	case "@region":
		return p.Region, p.Region != ""
	case "@zone":
		return p.Zone, p.Zone != ""
	}
	value, ok := p.Attributes[name]
	return value, ok
}

// ScalarText prints to a thousandth, half to even, without trailing zeros.
func ScalarText(value float64) string {
	return strconv.FormatFloat(math.RoundToEven(value*1000)/1000, 'f', -1, 64)
}

// attributeText prints an attribute as constraints compare it.
func attributeText(a *mesos.Attribute) string {
	switch a.GetType() {
	case mesos.Value_SCALAR:
		return ScalarText(a.GetScalar().GetValue())
	case mesos.Value_RANGES:
		ranges := slices.Clone(a.GetRanges().GetRange())
		slices.SortFunc(ranges, func(x, y *mesos.Value_Range) int { return cmp.Compare(x.GetBegin(), y.GetBegin()) })
		texts := make([]string, len(ranges))
		for i, r := range ranges {
			texts[i] = fmt.Sprintf("%d-%d", r.GetBegin(), r.GetEnd())
		}
		return "[" + strings.Join(texts, ",") + "]"
	case mesos.Value_SET:
		items := slices.Sorted(slices.Values(a.GetSet().GetItem()))
		return "{" + strings.Join(items, ",") + "}"
	}
	return a.GetText().GetValue()
}
