package rules

import (
	"math"
	"strings"

	"github.com/gantry-project/gantry/kernel/ledger"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

const (
	maxWeightRole = 255 // bytes: the role is part of a key of the registry
	maxWeight     = 1e9
)

// Weight returns the role of a weight and its thousandths, at least one.
func Weight(w *mesos.WeightInfo) (role string, milli int64, err error) {
	role = strings.TrimSpace(w.GetRole())
	if err := Role(role); err != nil {
		return "", 0, refuse("Invalid role '%s': %w", role, err)
	}
	if len(role) > maxWeightRole {
		return "", 0, refuse("Invalid role '%.40s...': it has more than %d bytes", role, maxWeightRole)
	}
	milli = int64(math.Round(math.Min(w.GetWeight(), 2*maxWeight) * 1000))
	switch {
	case !(w.GetWeight() > 0): // not a number is not positive either
		return "", 0, refuse("Invalid weight '%g' of role '%s': Weights must be positive", w.GetWeight(), role)
	case milli < 1, w.GetWeight() > maxWeight:
		return "", 0, refuse("Invalid weight '%g' of role '%s': Weights are between 0.001 and %g", w.GetWeight(), role, maxWeight)
	}
	return role, milli, nil
}

// UpdateFramework tells whether a framework that is known as old may change to what an
// UPDATE_FRAMEWORK says, sent by an authenticated principal or anybody.
func UpdateFramework(old *mesos.FrameworkInfo, c *schedulerpb.Call_UpdateFramework, authenticated string) error {
	info := c.GetFrameworkInfo()
	for _, err := range []error{
		FrameworkInfo(info), SuppressedRoles(info, c.GetSuppressedRoles()), Principal(info, authenticated), Resubscribe(old, info),
	} {
		if err != nil {
			return err
		}
	}
	switch {
	case info.GetUser() != old.GetUser():
		return refuse("Updating 'FrameworkInfo.user' is unsupported; attempted to update from '%s' to '%s'", old.GetUser(), info.GetUser())
	case info.GetCheckpoint() != old.GetCheckpoint():
		return refuse("Updating 'FrameworkInfo.checkpoint' is unsupported; attempted to update from '%t' to '%t'", old.GetCheckpoint(), info.GetCheckpoint())
	}
	return nil
}

// Capable tells whether a framework has the capabilities to handle resources of an agent
// in its domain, for a master in another, or in the same.
func Capable(f *mesos.FrameworkInfo, resources ledger.Resources, agent, master *mesos.DomainInfo) error {
	needs := func(what string, c mesos.FrameworkInfo_Capability_Type) error {
		for _, have := range f.GetCapabilities() {
			if have.GetType() == c {
				return nil
			}
		}
		return refuse("%s is for frameworks with the capability %s, which framework %s lacks", what, c, f.GetId().GetValue())
	}
	for r := range resources.All() {
		var err error
		switch {
		case r.Name == "gpus":
			err = needs("A GPU", mesos.FrameworkInfo_Capability_GPU_RESOURCES)
		case r.Revocable:
			err = needs("Revocable "+r.Name, mesos.FrameworkInfo_Capability_REVOCABLE_RESOURCES)
		case r.Shared:
			err = needs("Shared "+r.Name, mesos.FrameworkInfo_Capability_SHARED_RESOURCES)
		case r.Reservation != "" && len(ledger.Of(r).Mesos("")[0].GetReservations()) > 1:
			err = needs("A reservation within another", mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT)
		}
		if err != nil {
			return err
		}
	}
	home, region := regionOf(master), regionOf(agent)
	if home != "" && region != "" && region != home {
		return needs("An agent in the region "+region, mesos.FrameworkInfo_Capability_REGION_AWARE)
	}
	return nil
}

func regionOf(d *mesos.DomainInfo) string { return d.GetFaultDomain().GetRegion().GetName() }
