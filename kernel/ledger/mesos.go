package ledger

import (
	"errors"
	"strings"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// FromMesos reads the wire's resources, in either reservation format. Scalars are
// rounded to thousandths, zero amounts vanish, equal kinds add up; allocation_info is
// left to AllocationRole.
func FromMesos(list []*mesos.Resource) (Resources, error) {
	read := make([]Resource, 0, len(list))
	for _, r := range list {
		one, err := fromMesos(r)
		if err != nil {
			return Resources{}, refuse("Resource '%s' is invalid: %w", r.GetName(), err)
		}
		read = append(read, one)
	}
	return bounded(read)
}

// bounded sums up what came from outside and was checked as it was read.
func bounded(list []Resource) (Resources, error) {
	sum := collect(list)
	for _, r := range sum.list {
		if r.Milli > maxMilli {
			return Resources{}, refuse("Resource '%s' is invalid: value > %d", r.Name, int64(maxMilli/1000))
		}
	}
	return sum, nil
}

func fromMesos(r *mesos.Resource) (Resource, error) {
	if r.GetName() == "" {
		return Resource{}, refuse("Empty resource name")
	}
	if err := checkText(r); err != nil {
		return Resource{}, err
	}
	if r.ProviderId != nil {
		return Resource{}, errors.New("resources of a resource provider are not supported")
	}
	out := Resource{Key: Key{Name: r.GetName(), Revocable: r.Revocable != nil, Shared: r.Shared != nil}}
	if err := readAmount(r, &out); err != nil {
		return Resource{}, err
	}
	if err := checkDiskInfo(r); err != nil {
		return Resource{}, err
	}
	path, err := reservationsOf(r)
	if err != nil {
		return Resource{}, err
	}
	if r.Shared != nil && r.GetName() != "disk" {
		return Resource{}, refuse("Resource %s cannot be shared", r.GetName())
	}
	if r.Shared != nil && r.GetDisk().GetPersistence() == nil {
		return Resource{}, refuse("Only persistent volumes can be shared")
	}
	out.Reservation = reservationText(path)
	out.Disk, err = diskText(r.Disk)
	return out, err
}

// readAmount wants exactly the amount that the type announces.
func readAmount(r *mesos.Resource, out *Resource) error {
	if r.Type == nil {
		return refuse("Invalid resource type")
	}
	var err error
	switch r.GetType() {
	case mesos.Value_SCALAR:
		if r.Scalar == nil || r.Ranges != nil || r.Set != nil {
			return refuse("Invalid scalar resource")
		}
		if out.Milli, err = milliOf(r.GetScalar().GetValue()); err != nil {
			return refuse("Invalid scalar resource: %w", err)
		}
	case mesos.Value_RANGES:
		if r.Ranges == nil || r.Scalar != nil || r.Set != nil {
			return refuse("Invalid ranges resource")
		}
		if out.Ranges, err = readRanges(r.GetRanges().GetRange()); err != nil {
			return refuse("Invalid ranges resource: %w", err)
		}
	case mesos.Value_SET:
		if r.Set == nil || r.Scalar != nil || r.Ranges != nil {
			return refuse("Invalid set resource")
		}
		out.Items = normalItems(r.GetSet().GetItem())
		if len(out.Items) != len(r.GetSet().GetItem()) {
			return refuse("Invalid set resource: duplicated elements")
		}
	default:
		return refuse("Unsupported resource type")
	}
	return nil
}

func readRanges(list []*mesos.Value_Range) ([]Range, error) {
	read := make([]Range, len(list))
	for i, g := range list {
		read[i] = Range{g.GetBegin(), g.GetEnd()}
		if g.GetBegin() > g.GetEnd() {
			return nil, errors.New("begin > end")
		}
	}
	if overlapping(read) {
		return nil, errors.New("overlapping ranges")
	}
	return normalRanges(read), nil
}

func checkDiskInfo(r *mesos.Resource) error {
	if r.Disk == nil {
		return nil
	}
	if r.GetName() != "disk" {
		return refuse("DiskInfo should not be set for %s resource", r.GetName())
	}
	s := r.Disk.Source
	if s == nil {
		return nil
	}
	switch s.GetType() {
	case mesos.Resource_DiskInfo_Source_PATH, mesos.Resource_DiskInfo_Source_MOUNT:
	case mesos.Resource_DiskInfo_Source_BLOCK, mesos.Resource_DiskInfo_Source_RAW:
		if s.Mount != nil {
			return refuse("Mount should not be set for %s disk source", s.GetType())
		}
		if s.Path != nil {
			return refuse("Path should not be set for %s disk source", s.GetType())
		}
	default:
		return refuse("Unsupported 'DiskInfo.Source.Type'")
	}
	return nil
}

// reservationsOf returns the reservations in the refined format, whichever of the two
// the resource has.
func reservationsOf(r *mesos.Resource) ([]*mesos.Resource_ReservationInfo, error) {
	if len(r.Reservations) == 0 {
		return plainReservation(r)
	}
	if err := checkReservations(r.Reservations); err != nil {
		return nil, err
	}
	if len(r.Reservations) > 1 {
		if r.Role != nil {
			return nil, refuse("Invalid resource format: 'Resource.role' must not be set if there is more than one reservation in 'Resource.reservations'")
		}
		if r.Reservation != nil {
			return nil, refuse("Invalid resource format: 'Resource.reservation' must not be set if there is more than one reservation in 'Resource.reservations'")
		}
		return r.Reservations, nil
	}
	return r.Reservations, checkBothFormats(r, r.Reservations[0])
}

// plainReservation reads role and reservation, the format without refinements.
func plainReservation(r *mesos.Resource) ([]*mesos.Resource_ReservationInfo, error) {
	if err := CheckRole(r.GetRole()); err != nil {
		return nil, err
	}
	dynamic := r.Reservation
	switch {
	case dynamic == nil && r.GetRole() == "*":
		return nil, nil
	case dynamic == nil:
		return []*mesos.Resource_ReservationInfo{{
			Type: mesos.Resource_ReservationInfo_STATIC.Enum(),
			Role: proto.String(r.GetRole()),
		}}, nil
	case dynamic.Type != nil:
		return nil, refuse("'Resource.ReservationInfo.type' must not be set for the 'Resource.reservation' field")
	case dynamic.Role != nil:
		return nil, refuse("'Resource.ReservationInfo.role' must not be set for the 'Resource.reservation' field")
	case r.GetRole() == "*":
		return nil, refuse("Invalid reservation: role \"*\" cannot be dynamically reserved")
	}
	return []*mesos.Resource_ReservationInfo{{
		Type:      mesos.Resource_ReservationInfo_DYNAMIC.Enum(),
		Role:      proto.String(r.GetRole()),
		Principal: dynamic.Principal,
		Labels:    dynamic.Labels,
	}}, nil
}

// checkReservations accepts a path of roles, each but the first a dynamic refinement of
// the one before.
func checkReservations(path []*mesos.Resource_ReservationInfo) error {
	if len(path) == 0 {
		return refuse("Invalid reservation: the list is empty")
	}
	for _, info := range path {
		switch {
		case info.Type == nil:
			return refuse("Invalid reservation: 'Resource.ReservationInfo.type' field must be set.")
		case info.GetType() != mesos.Resource_ReservationInfo_STATIC && info.GetType() != mesos.Resource_ReservationInfo_DYNAMIC:
			return refuse("Unsupported 'Resource.ReservationInfo.Type'")
		case info.Role == nil:
			return refuse("Invalid reservation: 'Resource.ReservationInfo.role' field must be set.")
		case info.GetRole() == "*":
			return refuse("Invalid reservation: role \"*\" cannot be reserved")
		}
		if err := CheckRole(info.GetRole()); err != nil {
			return err
		}
	}
	for i, info := range path[1:] {
		if info.GetType() == mesos.Resource_ReservationInfo_STATIC {
			return refuse("Invalid refined reservation: A refined reservation cannot be STATIC")
		}
		if above := path[i].GetRole(); !strings.HasPrefix(info.GetRole(), above+"/") {
			return refuse("Invalid refined reservation: role '%s' is not a refinement of '%s'", info.GetRole(), above)
		}
	}
	return nil
}

// checkBothFormats lets the plain format stand beside a single reservation if it says
// the same.
func checkBothFormats(r *mesos.Resource, info *mesos.Resource_ReservationInfo) error {
	if r.Role != nil && r.GetRole() != info.GetRole() {
		return refuse("Invalid resource format: 'Resource.role' field with '%s' does not match the role '%s' in 'Resource.reservations'", r.GetRole(), info.GetRole())
	}
	if info.GetType() == mesos.Resource_ReservationInfo_STATIC {
		if r.Reservation != nil {
			return refuse("Invalid resource format: 'Resource.reservation' must not be set if the single reservation in 'Resource.reservations' is STATIC")
		}
		return nil
	}
	switch {
	case (r.Role != nil) != (r.Reservation != nil):
		return refuse("Invalid resource format: 'Resource.role' and 'Resource.reservation' must either be both set or both not set if the single reservation in 'Resource.reservations' is DYNAMIC")
	case r.Reservation == nil:
		return nil
	case r.Reservation.GetPrincipal() != info.GetPrincipal():
		return refuse("Invalid resource format: 'Resource.reservation.principal' field with '%s' does not match the principal '%s' in 'Resource.reservations'", r.Reservation.GetPrincipal(), info.GetPrincipal())
	case encode(labelsOf(r.Reservation.Labels)) != encode(labelsOf(info.Labels)):
		return refuse("Invalid resource format: 'Resource.reservation.labels' field does not match the labels in 'Resource.reservations'")
	}
	return nil
}

// AllocationRole returns the one role that the resources are allocated to, or "" if
// none says; those that don't say are taken to agree. It is an error if they differ.
func AllocationRole(list []*mesos.Resource) (string, error) {
	var role *string
	for _, r := range list {
		next := r.GetAllocationInfo().GetRole()
		switch {
		case r.GetAllocationInfo() == nil || r.AllocationInfo.Role == nil:
		case role == nil:
			role = &next
		case *role != next:
			return "", refuse("The resources have multiple allocation roles ('%s' and '%s') but only one allocation role is allowed", next, *role)
		}
	}
	return deref(role), nil
}

// Mesos returns the wire's resources in the refined reservation format, allocated to a
// role unless it is empty.
func (r Resources) Mesos(allocationRole string) []*mesos.Resource {
	out := make([]*mesos.Resource, len(r.list))
	for i, have := range r.list {
		out[i] = have.mesos()
		if allocationRole != "" {
			out[i].AllocationInfo = &mesos.Resource_AllocationInfo{Role: proto.String(allocationRole)}
		}
	}
	return out
}

// MesosPlain is Mesos in the format without refinements, role and reservation, which
// is all that frameworks without the RESERVATION_REFINEMENT capability read. A refined
// reservation can't be told in it, and stays as it is.
func (r Resources) MesosPlain(allocationRole string) []*mesos.Resource {
	out := r.Mesos(allocationRole)
	for _, w := range out {
		switch len(w.Reservations) {
		case 0:
			w.Role = proto.String("*")
		case 1:
			info := w.Reservations[0]
			w.Role = info.Role
			if info.GetType() == mesos.Resource_ReservationInfo_DYNAMIC {
				w.Reservation = &mesos.Resource_ReservationInfo{Principal: info.Principal, Labels: info.Labels}
			}
			w.Reservations = nil
		}
	}
	return out
}

func (r Resource) mesos() *mesos.Resource {
	out := &mesos.Resource{Name: proto.String(r.Name)}
	switch r.kind() {
	case ranges:
		out.Type = mesos.Value_RANGES.Enum()
		out.Ranges = &mesos.Value_Ranges{}
		for _, g := range r.Ranges {
			out.Ranges.Range = append(out.Ranges.Range, &mesos.Value_Range{Begin: proto.Uint64(g.Begin), End: proto.Uint64(g.End)})
		}
	case items:
		out.Type = mesos.Value_SET.Enum()
		out.Set = &mesos.Value_Set{Item: append([]string(nil), r.Items...)}
	default:
		out.Type = mesos.Value_SCALAR.Enum()
		out.Scalar = &mesos.Value_Scalar{Value: proto.Float64(float64(r.Milli) / 1000)}
	}
	if r.Reservation != "" {
		for _, info := range mustDecode[[]reservation](r.Reservation) {
			out.Reservations = append(out.Reservations, info.wire())
		}
	}
	if r.Disk != "" {
		out.Disk = mustDecode[disk](r.Disk).wire()
	}
	if r.Revocable {
		out.Revocable = &mesos.Resource_RevocableInfo{}
	}
	if r.Shared {
		out.Shared = &mesos.Resource_SharedInfo{}
	}
	return out
}
