package node

import (
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/step"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Effects is what a step asks of its shell, in the order of the fields: everything in
// Persist must be durable before anything else of this step, or of a later one, is done.
type Effects struct {
	Persist []step.Write
	Send    []Send
	Ask     []Ask
	Drop    []Drop
}

// Send is one message to the master. A Conn that has ended meanwhile is no error: the
// message is dropped, and said again on the next one where it matters.
type Send struct {
	Conn    uint64
	Message *linkpb.ToMaster
}

// Drop asks to close a stream.
type Drop struct {
	Conn uint64
	// Reason is a sentence for the operator.
	Reason string
	// Permanent says that dialling again will not help.
	Permanent bool
}

// Ask is something to be done about a container: Launch, Signal or Forget.
type Ask interface{ ask() }

// Launch asks to prepare and start a container. It is answered by ContainerStarted or
// ContainerFailed, or by its absence from a later KeeperUp.
type Launch struct {
	Container string
	Framework *mesos.FrameworkInfo
	Task      *mesos.TaskInfo
	// Sandbox is the task's folder, relative to the agent's work dir.
	Sandbox string
}

// Signal asks to signal every process of a container, or, where it is being prepared,
// to give that up. It has no answer and may fail silently: the machine asks again.
type Signal struct {
	Container string
	Number    int32
}

// Forget says that a container's end is on record: what remains of it can be removed,
// the keeper's exit record last. It may come twice.
type Forget struct{ Container string }

func (Launch) ask() {}
func (Signal) ask() {}
func (Forget) ask() {}
