// Package version tells which build of gantry this is.
package version

import "runtime/debug"

// stamp is set by the linker (see the Makefile); without it the build's own record is told.
var stamp = ""

// String returns the stamped version, or the commit that the build recorded.
func String() string {
	if stamp != "" {
		return stamp
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return "devel " + setting.Value
		}
	}
	return "devel"
}
