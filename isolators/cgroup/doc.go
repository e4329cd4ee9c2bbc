// Package cgroup names, limits, inspects and removes the control groups of a cluster's
// containers, on hosts with cgroup v1, v2 or both (hybrid).
//
// All groups of one agent or one `gantry up` lie below one parent that is named after
// its work directory, so that two clusters on a host never meet and cleaning up after
// one touches nothing else:
//
//	parent := cgroup.Name(workDir)               // "/gantry-1f2e3d4c"
//	limits := cgroup.Limits(500, 64<<20)         // half a CPU, 64 MiB
//	defer cgroup.Remove(ctx, parent)             // kills what is left in it
//
// Paths of groups are absolute below the mount of each hierarchy, and this package
// refuses to touch any that does not begin with a parent as Name makes it.
package cgroup
