package rules

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

const (
	maxRoles      = 1000 // of one framework
	maxNamed      = 100  // in a refusal
	maxNamedBytes = 2000
)

// FrameworkInfo tells whether a framework describes itself acceptably: its roles, its
// id, its filters and its failover timeout.
func FrameworkInfo(f *mesos.FrameworkInfo) error {
	if err := frameworkRoles(f); err != nil {
		return err
	}
	if f.GetId().GetValue() != "" {
		if err := ID(f.GetId().GetValue()); err != nil {
			return err
		}
	}
	// Sorted, so that it is always the same of several errors that is told.
	for _, role := range slices.Sorted(maps.Keys(f.GetOfferFilters())) {
		if err := offerFilters(f.GetOfferFilters()[role]); err != nil {
			return err
		}
	}
	if seconds := f.GetFailoverTimeout(); math.IsNaN(seconds) || math.Abs(seconds) > math.MaxInt64/1e9 {
		return refuse("The framework failover_timeout (%g) is invalid", seconds)
	}
	return nil
}

func multiRole(f *mesos.FrameworkInfo) bool {
	return slices.ContainsFunc(f.GetCapabilities(), func(c *mesos.FrameworkInfo_Capability) bool {
		return c.GetType() == mesos.FrameworkInfo_Capability_MULTI_ROLE
	})
}

func frameworkRoles(f *mesos.FrameworkInfo) error {
	if !multiRole(f) {
		if len(f.GetRoles()) > 0 {
			return refuse("'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable")
		}
		if err := Role(f.GetRole()); err != nil {
			return refuse("'FrameworkInfo.role' is not a valid role: %w", err)
		}
		return nil
	}
	if f.Role != nil {
		return refuse("'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable")
	}
	if n := len(f.GetRoles()); n > maxRoles {
		return refuse("'FrameworkInfo.roles' contains %d roles; at most %d are taken", n, maxRoles)
	}
	if twice := duplicates(f.GetRoles()); len(twice) > 0 {
		return refuse("'FrameworkInfo.roles' contains duplicate items: %s", set(twice))
	}
	if err := roles(f.GetRoles()); err != nil {
		return refuse("'FrameworkInfo.roles' contains invalid role: %w", err)
	}
	return nil
}

func offerFilters(f *mesos.OfferFilters) error {
	for _, q := range f.GetMinAllocatableResources().GetQuantities() {
		if len(q.GetQuantities()) == 0 {
			return refuse("Resource quantities must contain at least one quantity")
		}
		for _, name := range slices.Sorted(maps.Keys(q.GetQuantities())) {
			if err := quantity(q.GetQuantities()[name].GetValue()); err != nil {
				return refuse("Invalid resource quantity for '%s': %w", name, err)
			}
		}
	}
	return nil
}

func quantity(value float64) error {
	switch {
	case math.IsInf(value, 0):
		return refuse("Infinite values not supported")
	case math.IsNaN(value):
		return refuse("NaN not supported")
	case value < 0:
		return refuse("Negative values not supported")
	}
	return nil
}

// Roles returns the roles that a framework subscribes to, ascending, each once.
func Roles(f *mesos.FrameworkInfo) []string {
	if !multiRole(f) {
		return []string{f.GetRole()}
	}
	return slices.Compact(slices.Sorted(slices.Values(f.GetRoles())))
}

// FailoverTimeout returns how long a framework may be away before its tasks end: never
// negative, at most what a Duration holds.
func FailoverTimeout(f *mesos.FrameworkInfo) time.Duration {
	return duration(f.GetFailoverTimeout(), math.MaxInt64)
}

// Resubscribe tells whether a known framework may come back with what it says now. Its
// principal never changes; changes of user and checkpoint are not refused, the caller
// keeps the old values.
func Resubscribe(old, new *mesos.FrameworkInfo) error {
	if (old.Principal != nil) != (new.Principal != nil) || old.GetPrincipal() != new.GetPrincipal() {
		// The old principal is nobody's business but its own.
		return refuse("Changing framework's principal is not allowed.")
	}
	return nil
}

// SuppressedRoles tells whether a framework subscribes to all roles that it suppresses.
func SuppressedRoles(f *mesos.FrameworkInfo, suppressed []string) error {
	subscribed := Roles(f)
	var strange []string
	for _, role := range suppressed {
		if _, has := slices.BinarySearch(subscribed, role); !has {
			strange = append(strange, role)
		}
	}
	if len(strange) > 0 {
		return refuse("Suppressed roles %s are not contained in the set of roles", set(strange))
	}
	return nil
}

// defaultRefusal and maxRefusal bound a filter.
const (
	defaultRefusal = 5 * time.Second
	maxRefusal     = 365 * 24 * time.Hour
)

// RefuseSeconds returns for how long refused resources are not offered again: five
// seconds unless the filters say otherwise and make sense, a year at most. Zero is no
// filter at all.
func RefuseSeconds(f *mesos.Filters) time.Duration {
	seconds := f.GetRefuseSeconds()
	if f == nil || math.IsNaN(seconds) || seconds < 0 {
		return defaultRefusal
	}
	return duration(seconds, maxRefusal)
}

// duration converts seconds within 0 and most.
func duration(seconds float64, most time.Duration) time.Duration {
	switch {
	case !(seconds > 0): // not a number is no time either
		return 0
	case seconds >= most.Seconds():
		return most
	default:
		return time.Duration(seconds * float64(time.Second))
	}
}

func duplicates(list []string) []string {
	var twice []string
	sorted := slices.Sorted(slices.Values(list))
	for i := 1; i < len(sorted); i++ {
		if sorted[i] == sorted[i-1] {
			twice = append(twice, sorted[i])
		}
	}
	return twice
}

// set writes strings as clients know sets, ascending and each once; of a long one the
// beginning.
func set(list []string) string {
	sorted := slices.Compact(slices.Sorted(slices.Values(list)))
	text := strings.Join(sorted[:min(len(sorted), maxNamed)], ", ")
	if len(sorted) > maxNamed || len(text) > maxNamedBytes {
		text = strings.ToValidUTF8(text[:min(len(text), maxNamedBytes)], "") + ", ..."
	}
	return "{ " + text + " }"
}
