package flat

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	"github.com/gantry-project/gantry/sdk/proto/mesosjson"
)

// resources are amounts by name: a number for a scalar, text for ranges and sets. The four
// that everybody asks for are always there.
type resources map[string]any

func flatten(lists ...[]*mesos.Resource) resources {
	scalars, texts := map[string]float64{"cpus": 0, "gpus": 0, "mem": 0, "disk": 0}, map[string][]string{}
	sets := map[string]bool{}
	for _, list := range lists {
		for _, r := range list {
			name := r.GetName()
			if r.Revocable != nil {
				name += "_revocable"
			}
			switch r.GetType() {
			case mesos.Value_SCALAR:
				scalars[name] += r.GetScalar().GetValue()
			case mesos.Value_RANGES:
				texts[name] = append(texts[name], rangeTexts(r.GetRanges())...)
			case mesos.Value_SET:
				texts[name], sets[name] = append(texts[name], r.GetSet().GetItem()...), true
			}
		}
	}
	all := resources{}
	for name, sum := range scalars {
		all[name] = math.Round(sum*1000) / 1000
	}
	for name, parts := range texts {
		all[name] = enclose(sets[name], parts)
	}
	return all
}

func rangeTexts(r *mesos.Value_Ranges) []string {
	var texts []string
	for _, g := range r.GetRange() {
		texts = append(texts, fmt.Sprintf("%d-%d", g.GetBegin(), g.GetEnd()))
	}
	return texts
}

func enclose(set bool, parts []string) string {
	if set {
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// reservedTo is the role that a resource is reserved to, if any.
func reservedTo(r *mesos.Resource) string {
	if n := len(r.GetReservations()); n > 0 {
		return r.GetReservations()[n-1].GetRole()
	}
	return ""
}

// byReservation parts resources by the role that they are reserved to; "" has the rest.
func byReservation(list []*mesos.Resource) map[string][]*mesos.Resource {
	parts := map[string][]*mesos.Resource{}
	for _, r := range list {
		parts[reservedTo(r)] = append(parts[reservedTo(r)], r)
	}
	return parts
}

// allocatedTo is the role that resources, all of one role, are allocated to.
func allocatedTo(list []*mesos.Resource) string {
	if len(list) == 0 {
		return "*"
	}
	return list[0].GetAllocationInfo().GetRole()
}

func attributes(list []*mesos.Attribute) map[string]any {
	all := map[string]any{}
	for _, a := range list {
		switch a.GetType() {
		case mesos.Value_SCALAR:
			all[a.GetName()] = a.GetScalar().GetValue()
		case mesos.Value_RANGES:
			all[a.GetName()] = enclose(false, rangeTexts(a.GetRanges()))
		case mesos.Value_SET:
			all[a.GetName()] = enclose(true, a.GetSet().GetItem())
		case mesos.Value_TEXT:
			all[a.GetName()] = a.GetText().GetValue()
		}
	}
	return all
}

// wire is a message as it stands on the v1 wire.
func wire(m mesosjson.Message) json.RawMessage { return m.AppendJSON(nil) }

func wires[M mesosjson.Message](list []M) []json.RawMessage {
	all := make([]json.RawMessage, 0, len(list))
	for _, m := range list {
		all = append(all, wire(m))
	}
	return all
}

func seconds(t *mesos.TimeInfo) float64 { return float64(t.GetNanoseconds()) / 1e9 }

// listed is a list that is [] when it is empty.
func listed[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
