// Package weights is how much of the cluster roles are due: what operators set, as the
// master keeps it and as allocators and clients are told.
//
//	changed, err := w.Changed(call.WeightInfos)
//	for role := range changed {
//		delta := w.Contract(role)
//	}
//	again := changed.Concern(framework.Roles)
package weights

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/rules"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

const (
	most  = 10_000 // roles with a weight of their own
	usual = 1000   // thousandths
)

// Weights are of the roles that have one of their own, in thousandths, positive.
type Weights map[string]int64

// Changed reads weights that are to be set and returns those that differ from what they
// are; of several for a role the last one counts. It changes nothing.
func (w Weights) Changed(list []*mesos.WeightInfo) (Weights, error) {
	changed := Weights{}
	for _, info := range list {
		role, milli, err := rules.Weight(info)
		if err != nil {
			return nil, errors.New("Failed to validate update weights request: " + err.Error())
		}
		changed[role] = milli
	}
	maps.DeleteFunc(changed, func(role string, milli int64) bool { return w[role] == milli })
	all := maps.Clone(w)
	maps.Copy(all, changed)
	if len(all) > most {
		return nil, fmt.Errorf("%d roles would have a weight; at most %d may", len(all), most)
	}
	return changed, nil
}

// Concern tells whether one of the roles, or one above it, is among the weights.
func (w Weights) Concern(roles []string) bool {
	for _, role := range roles {
		for end := len(role); end > 0; end = strings.LastIndexByte(role[:end], '/') {
			if w[role[:end]] != 0 {
				return true
			}
		}
	}
	return false
}

// Of is the weight of a role as clients know it.
func (w Weights) Of(role string) float64 { return float64(cmp.Or(w[role], usual)) / 1000 }

// Roles are those with a weight of their own, ascending.
func (w Weights) Roles() []string { return slices.Sorted(maps.Keys(w)) }

// Contract is a role as allocators know it.
func (w Weights) Contract(role string) *allocatorpb.Role {
	return &allocatorpb.Role{Name: role, WeightMilli: w[role]}
}

// Contracts is every role with a weight of its own as allocators know it.
func (w Weights) Contracts() (list []*allocatorpb.Role) {
	for _, role := range w.Roles() {
		list = append(list, w.Contract(role))
	}
	return list
}

// Wire answers GET_WEIGHTS.
func (w Weights) Wire() *masterpb.Response_GetWeights {
	r := &masterpb.Response_GetWeights{}
	for _, role := range w.Roles() {
		r.WeightInfos = append(r.WeightInfos, &mesos.WeightInfo{Role: proto.String(role), Weight: proto.Float64(w.Of(role))})
	}
	return r
}
