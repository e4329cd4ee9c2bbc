package node

import (
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/step"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	executorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/executor"
)

// Effects is what a step asks of its shell, in the order of the fields: everything in
// Persist must be durable before anything else of this step, or of a later one, is done.
type Effects struct {
	Persist []step.Write
	Send    []Send
	Ask     []Ask
	// Replies come before what is told to a stream that they open.
	Replies []Reply
	Tell    []Tell
	Drop    []Drop
	// Dropped are tasks that the machine has no more, for who traces them.
	Dropped []id.TaskKey
}

// Send is one message to the master. A Conn that has ended meanwhile is no error: the
// message is dropped, and said again on the next one where it matters.
type Send struct {
	Conn    uint64
	Message *linkpb.ToMaster
}

// Reply answers an ExecutorCall in the terms of HTTP. An empty message is an empty body.
type Reply struct {
	Request uint64
	Status  int
	Message string
}

const (
	statusOK         = 200
	statusAccepted   = 202
	statusBadRequest = 400
	statusForbidden  = 403
)

// Tell is one event for an executor, or the end of its stream. A stream that has ended
// meanwhile is no error: what matters is settled when the executor subscribes again.
type Tell struct {
	Stream uint64
	Event  *executorpb.Event
	Close  bool
}

// Drop asks to close a stream.
type Drop struct {
	Conn uint64
	// Reason is a sentence for the operator.
	Reason string
	// Permanent says that dialling again will not help.
	Permanent bool
}

// Ask is something to be done about a container: Launch, Resize, Signal or Forget.
type Ask interface{ ask() }

// Launch asks to prepare and start a container. It is answered by ContainerStarted or
// ContainerFailed, or by its absence from a later KeeperUp.
type Launch struct {
	Container string
	Framework *mesos.FrameworkInfo
	// Task is what the container is for; nil if it is for Executor.
	Task     *mesos.TaskInfo
	Executor *mesos.ExecutorInfo
	// Sandbox is the container's folder, relative to the agent's work dir.
	Sandbox string
	// Resources are what a container of an executor begins with: its own and its first task's.
	Resources []*mesos.Resource
}

// ContainerInfo is what the framework says of the container, nil if nothing.
func (l Launch) ContainerInfo() *mesos.ContainerInfo {
	if l.Executor != nil {
		return l.Executor.GetContainer()
	}
	return l.Task.GetContainer()
}

// Resize asks to set the limits of a running container to what it is to have from now
// on. It has no answer.
type Resize struct {
	Container string
	Resources []*mesos.Resource
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
func (Resize) ask() {}
func (Signal) ask() {}
func (Forget) ask() {}
