// Package orphan makes this process the parent of its descendants whose own parents die,
// and tells how those, and all its other children, end. A child's status stays with the
// kernel until Reap, so that whoever writes it down may do that first.
//
//	err := orphan.Adopt()
//	signal.Notify(changed, syscall.SIGCHLD)
//	for range changed {
//		for end, err := orphan.Ended(orphan.Any); err == nil; end, err = orphan.Ended(orphan.Any) {
//			...                             // write it down
//			err = orphan.Reap(end.Pid)
//		}
//	}
package orphan

import (
	"syscall"

	"github.com/gantry-project/gantry/isolators/internal/sys"
)

// ErrNone says that no child has ended.
var ErrNone = sys.ErrNoChild

// End is a child's.
type End struct {
	// Pid and StartTicks (field 22 of /proc/PID/stat) name the process.
	Pid        int
	StartTicks uint64
	Status     syscall.WaitStatus
	// Name is that of the program that it was last, as /proc/PID/comm has it.
	Name string
}

// Adopt makes this process the parent of its orphaned descendants.
func Adopt() error { return sys.Subreaper() }

// Any child will do.
const Any = 0

// Ended is how the child pid ended, or Any that has: the same one until Reap. ErrNone if it
// has not.
func Ended(pid int) (End, error) {
	pid, status, err := sys.EndedChild(pid)
	if err != nil {
		return End{}, err
	}
	ticks, err := sys.StartTicks(pid)
	if err != nil {
		return End{}, err
	}
	name, err := sys.Name(pid)
	if err != nil {
		return End{}, err
	}
	return End{Pid: pid, StartTicks: ticks, Status: status, Name: name}, nil
}

// Reap lets the kernel forget the child pid, which has ended.
func Reap(pid int) error { return sys.Reap(pid) }
