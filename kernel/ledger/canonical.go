package ledger

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// The canonical text of reservations and of disks is JSON with its fields in the order
// below, as encoding/json writes it: equal kinds have equal text, the text sorts, and
// the wire's message comes back from it (labels in order of key and value). For instance
//
//	[{"type":"static","role":"eng"},{"type":"dynamic","role":"eng/web","principal":"ops"}]
//	{"persistence":{"id":"db"},"volume":{"mode":"RW","containerPath":"data"}}
//
// Absent and empty strings differ on the wire, so optional ones are pointers.

type reservation struct {
	Type      string   `json:"type"` // static or dynamic
	Role      string   `json:"role"`
	Principal *string  `json:"principal,omitempty"`
	Labels    *[]label `json:"labels,omitempty"`
}

type label struct {
	Key   string  `json:"key"`
	Value *string `json:"value,omitempty"`
}

type disk struct {
	Persistence *persistence `json:"persistence,omitempty"`
	Volume      *volume      `json:"volume,omitempty"`
	Source      *source      `json:"source,omitempty"`
}

type persistence struct {
	ID        string  `json:"id"`
	Principal *string `json:"principal,omitempty"`
}

type volume struct {
	Mode          string  `json:"mode"` // RW or RO
	ContainerPath string  `json:"containerPath"`
	HostPath      *string `json:"hostPath,omitempty"`
}

type source struct {
	Type     string   `json:"type"` // PATH, MOUNT, BLOCK or RAW
	Path     *root    `json:"path,omitempty"`
	Mount    *root    `json:"mount,omitempty"`
	Vendor   *string  `json:"vendor,omitempty"`
	ID       *string  `json:"id,omitempty"`
	Metadata *[]label `json:"metadata,omitempty"`
	Profile  *string  `json:"profile,omitempty"`
}

type root struct {
	Root *string `json:"root,omitempty"`
}

// encode writes canonical text; it can't fail for the types above.
func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("ledger: encode %+v: %v", v, err))
	}
	return string(text)
}

// mustDecode reads text that check has accepted.
func mustDecode[T any](text string) T {
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		panic(fmt.Sprintf("ledger: %q is no canonical text: %v", text, err))
	}
	return v
}

// checkReservation tells whether text is canonical and its reservations are sound.
func checkReservation(text string) error {
	if text == "" {
		return nil
	}
	var path []reservation
	if err := json.Unmarshal([]byte(text), &path); err != nil {
		return fmt.Errorf("reservation %q: %w", text, err)
	}
	infos := make([]*mesos.Resource_ReservationInfo, len(path))
	for i, r := range path {
		infos[i] = r.wire()
	}
	if err := checkReservations(infos); err != nil {
		return fmt.Errorf("reservation %q: %w", text, err)
	}
	if canonical := reservationText(infos); canonical != text {
		return fmt.Errorf("reservation %q is not canonical, that would be %q", text, canonical)
	}
	return nil
}

// checkDisk tells whether text is canonical.
func checkDisk(text string) error {
	if text == "" {
		return nil
	}
	var d disk
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return fmt.Errorf("disk %q: %w", text, err)
	}
	canonical, err := diskText(d.wire())
	if err != nil {
		return fmt.Errorf("disk %q: %w", text, err)
	}
	if canonical != text {
		return fmt.Errorf("disk %q is not canonical, that would be %q", text, canonical)
	}
	return nil
}

// reservedFor tells whether canonical reservations let a role be offered the resource.
// A refinement is below what it refines, so the last one decides.
func reservedFor(text, role string) bool {
	path := mustDecode[[]reservation](text)
	to := path[len(path)-1].Role
	return role == to || strings.HasPrefix(role, to+"/")
}

// indivisible tells whether a disk is lent as a whole: a persistent volume has
// somebody's data on it, and a mount, block or raw device can't be cut.
func indivisible(text string) bool {
	d := mustDecode[disk](text)
	if d.Persistence != nil {
		return true
	}
	if d.Source == nil {
		return false
	}
	switch d.Source.Type {
	case "MOUNT", "BLOCK":
		return true
	case "RAW":
		return d.Source.ID != nil
	default:
		return false
	}
}

// reservationText is the canonical text of reservations that checkReservations accepts.
func reservationText(infos []*mesos.Resource_ReservationInfo) string {
	if len(infos) == 0 {
		return ""
	}
	path := make([]reservation, len(infos))
	for i, info := range infos {
		path[i] = reservation{
			Type:      strings.ToLower(info.GetType().String()),
			Role:      info.GetRole(),
			Principal: info.Principal,
			Labels:    labelsOf(info.Labels),
		}
	}
	return encode(path)
}

func (r reservation) wire() *mesos.Resource_ReservationInfo {
	info := &mesos.Resource_ReservationInfo{
		Role:      proto.String(r.Role),
		Principal: r.Principal,
		Labels:    wireLabels(r.Labels),
	}
	switch r.Type {
	case "static":
		info.Type = mesos.Resource_ReservationInfo_STATIC.Enum()
	case "dynamic":
		info.Type = mesos.Resource_ReservationInfo_DYNAMIC.Enum()
	default:
		info.Type = mesos.Resource_ReservationInfo_UNKNOWN.Enum()
	}
	return info
}

// diskText is the canonical text of a disk, or an error for what the ledger can't
// carry without loss.
func diskText(info *mesos.Resource_DiskInfo) (string, error) {
	if info == nil {
		return "", nil
	}
	var d disk
	if p := info.Persistence; p != nil {
		d.Persistence = &persistence{ID: p.GetId(), Principal: p.Principal}
	}
	if v := info.Volume; v != nil {
		if v.Image != nil || v.Source != nil {
			return "", errors.New("a volume with an image or a source is not supported as a disk resource")
		}
		if v.Mode == nil {
			return "", errors.New("the volume of a disk resource has no known mode")
		}
		d.Volume = &volume{Mode: v.GetMode().String(), ContainerPath: v.GetContainerPath(), HostPath: v.HostPath}
	}
	if s := info.Source; s != nil {
		d.Source = &source{
			Type:     s.GetType().String(),
			Vendor:   s.Vendor,
			ID:       s.Id,
			Metadata: labelsOf(s.Metadata),
			Profile:  s.Profile,
		}
		if s.Path != nil {
			d.Source.Path = &root{s.Path.Root}
		}
		if s.Mount != nil {
			d.Source.Mount = &root{s.Mount.Root}
		}
	}
	return encode(d), nil
}

func (d disk) wire() *mesos.Resource_DiskInfo {
	info := &mesos.Resource_DiskInfo{}
	if p := d.Persistence; p != nil {
		info.Persistence = &mesos.Resource_DiskInfo_Persistence{Id: proto.String(p.ID), Principal: p.Principal}
	}
	if v := d.Volume; v != nil {
		info.Volume = &mesos.Volume{ContainerPath: proto.String(v.ContainerPath), HostPath: v.HostPath}
		if mode, ok := mesos.Volume_Mode_value[v.Mode]; ok {
			info.Volume.Mode = mesos.Volume_Mode(mode).Enum()
		}
	}
	if s := d.Source; s != nil {
		info.Source = &mesos.Resource_DiskInfo_Source{
			Type:     mesos.Resource_DiskInfo_Source_Type(mesos.Resource_DiskInfo_Source_Type_value[s.Type]).Enum(),
			Vendor:   s.Vendor,
			Id:       s.ID,
			Metadata: wireLabels(s.Metadata),
			Profile:  s.Profile,
		}
		if s.Path != nil {
			info.Source.Path = &mesos.Resource_DiskInfo_Source_Path{Root: s.Path.Root}
		}
		if s.Mount != nil {
			info.Source.Mount = &mesos.Resource_DiskInfo_Source_Mount{Root: s.Mount.Root}
		}
	}
	return info
}

func labelsOf(labels *mesos.Labels) *[]label {
	if labels == nil {
		return nil
	}
	list := make([]label, len(labels.Labels))
	for i, l := range labels.Labels {
		list[i] = label{l.GetKey(), l.Value}
	}
	slices.SortFunc(list, func(a, b label) int {
		return cmp.Or(
			strings.Compare(a.Key, b.Key),
			compareBool(a.Value != nil, b.Value != nil),
			strings.Compare(deref(a.Value), deref(b.Value)),
		)
	})
	return &list
}

func wireLabels(list *[]label) *mesos.Labels {
	if list == nil {
		return nil
	}
	labels := &mesos.Labels{}
	for _, l := range *list {
		labels.Labels = append(labels.Labels, &mesos.Label{Key: proto.String(l.Key), Value: l.Value})
	}
	return labels
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// checkText refuses bytes that JSON could not carry.
func checkText(r *mesos.Resource) error {
	texts := []string{r.GetName()}
	texts = append(texts, r.GetSet().GetItem()...)
	labels := slices.Clone(r.GetDisk().GetSource().GetMetadata().GetLabels())
	for _, info := range append(slices.Clone(r.GetReservations()), r.GetReservation()) {
		texts = append(texts, info.GetRole(), info.GetPrincipal())
		labels = append(labels, info.GetLabels().GetLabels()...)
	}
	for _, l := range labels {
		texts = append(texts, l.GetKey(), l.GetValue())
	}
	d := r.GetDisk()
	texts = append(texts, r.GetRole(), d.GetPersistence().GetId(), d.GetPersistence().GetPrincipal(),
		d.GetVolume().GetContainerPath(), d.GetVolume().GetHostPath(),
		d.GetSource().GetPath().GetRoot(), d.GetSource().GetMount().GetRoot(),
		d.GetSource().GetVendor(), d.GetSource().GetId(), d.GetSource().GetProfile())
	for _, text := range texts {
		if !utf8.ValidString(text) {
			return fmt.Errorf("%q is not UTF-8", text)
		}
	}
	return nil
}
