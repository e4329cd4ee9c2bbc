package rules

import (
	"strings"

	"github.com/gantry-project/gantry/kernel/ledger"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// resources reads what a task or an executor, the subject, wants.
func resources(subject string, list []*mesos.Resource, allocated string) (ledger.Resources, error) {
	none := ledger.Resources{}
	want, err := ledger.FromMesos(list)
	if err != nil {
		return none, refuse("%s uses invalid resources: Invalid resources: %w", subject, err)
	}
	if err := gpus(want); err != nil {
		return none, refuse("%s uses invalid resources: Invalid 'gpus' resource: %w", subject, err)
	}
	if err := disks(list); err != nil {
		return none, refuse("%s uses invalid resources: Invalid DiskInfo: %w", subject, err)
	}
	if err := reservations(list); err != nil {
		return none, refuse("%s uses invalid resources: Invalid ReservationInfo: %w", subject, err)
	}
	if id, twice := repeatedVolume(list); twice {
		return none, refuse("%s uses duplicate persistence ID: Persistence ID '%s' is not unique", subject, id)
	}
	if err := allocatedTo(list, allocated); err != nil {
		return none, refuse("Invalid %s resources: %w", strings.ToLower(subject), err)
	}
	if err := unmixed(want); err != nil {
		return none, refuse("%s mixes revocable and non-revocable resources: %w", subject, err)
	}
	return want, nil
}

func gpus(want ledger.Resources) error {
	if want.Scalar("gpus")%1000 != 0 {
		return refuse("The 'gpus' resource must be an unsigned integer")
	}
	return nil
}

// allocatedTo wants every resource to be of the role that the offers are for, or not to
// say.
func allocatedTo(list []*mesos.Resource, role string) error {
	said, err := ledger.AllocationRole(list)
	if err != nil {
		return err
	}
	if said != "" && said != role {
		return refuse("The resources are allocated to role '%s' but the offers to role '%s'", said, role)
	}
	return nil
}

// unmixed wants every name to be revocable as a whole or not at all.
func unmixed(want ledger.Resources) error {
	revocable := map[string]bool{}
	for r := range want.All() {
		was, seen := revocable[r.Name]
		if seen && was != r.Revocable {
			return refuse("Cannot use both revocable and non-revocable '%s' at the same time", r.Name)
		}
		revocable[r.Name] = r.Revocable
	}
	return nil
}

// reservedTo returns the role that a resource is reserved to in the end, or "*", and
// whether it is so dynamically.
func reservedTo(r *mesos.Resource) (role string, dynamically bool) {
	if n := len(r.GetReservations()); n > 0 {
		last := r.GetReservations()[n-1]
		return last.GetRole(), last.GetType() == mesos.Resource_ReservationInfo_DYNAMIC
	}
	return r.GetRole(), r.Reservation != nil
}

// reservations refuses to reserve for good what may be taken away at any time.
func reservations(list []*mesos.Resource) error {
	for _, r := range list {
		if _, dynamically := reservedTo(r); dynamically && r.Revocable != nil {
			return refuse("Dynamically reserved resource %s cannot be created from revocable resources", r.GetName())
		}
	}
	return nil
}

// repeatedVolume finds a persistent volume that is listed twice.
func repeatedVolume(list []*mesos.Resource) (string, bool) {
	type volume struct{ role, id string }
	seen := map[volume]bool{}
	for _, r := range list {
		if r.GetDisk().GetPersistence() == nil || r.Shared != nil {
			continue
		}
		role, _ := reservedTo(r)
		v := volume{role, r.GetDisk().GetPersistence().GetId()}
		if seen[v] {
			return v.id, true
		}
		seen[v] = true
	}
	return "", false
}

func disks(list []*mesos.Resource) error {
	for _, r := range list {
		if r.Disk == nil {
			continue
		}
		if err := disk(r); err != nil {
			return err
		}
	}
	return nil
}

func disk(r *mesos.Resource) error {
	d := r.GetDisk()
	switch {
	case d.Persistence != nil:
		return persistent(r)
	case d.Volume != nil:
		return refuse("Non-persistent volume not supported")
	case d.Source == nil:
		return refuse("DiskInfo is set but empty")
	}
	return nil
}

func persistent(r *mesos.Resource) error {
	role, _ := reservedTo(r)
	switch {
	case r.Revocable != nil:
		return refuse("Persistent volumes cannot be created from revocable resources")
	case role == "*":
		return refuse("Persistent volumes cannot be created from unreserved resources")
	case r.GetDisk().Volume == nil:
		return refuse("Expecting 'volume' to be set for persistent volume")
	case r.GetDisk().Volume.HostPath != nil:
		return refuse("Expecting 'host_path' to be unset for persistent volume")
	}
	if err := ID(r.GetDisk().GetPersistence().GetId()); err != nil {
		return refuse("Invalid persistence ID for persistent volume: %w", err)
	}
	return nil
}
