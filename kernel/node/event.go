package node

import (
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
	executorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/executor"
)

// Event is one thing that happened to the agent: one of the types of this file.
type Event interface{ event() }

// Recovered is the first event of a machine, and comes once: what the last one had
// made durable.
type Recovered struct {
	Checkpoint Checkpoint
	// Boot names the host's current boot; containers of another one are dead.
	Boot string
	// Home names the place of the checkpoint, as Checkpoint.CheckHome was told it; empty
	// where nobody knows.
	Home string
}

// Linked says that a stream to a master is open. Conn is new and never zero.
type Linked struct{ Conn uint64 }

// Unlinked says that a stream has ended, for whatever reason.
type Unlinked struct{ Conn uint64 }

// FromMaster is one message of a stream.
type FromMaster struct {
	// Principal is the master's as the stream authenticated it.
	Principal string
	Conn      uint64
	Message   *linkpb.ToAgent
}

// KeeperUp says that a keeper is connected, and all that it holds. A container that is
// in none of the lists does not exist and never will.
type KeeperUp struct {
	Running []ContainerStarted
	// Starting are ids that the keeper is starting, and those that the shell is still
	// preparing for it.
	Starting []string
	Exits    []*containerpb.Exit
}

// KeeperDown says that no keeper is connected; containers may well go on.
type KeeperDown struct{}

// ContainerStarted says that a container's first process runs.
type ContainerStarted struct {
	Container string
	// Pid is the host's number of the container's first process.
	Pid int32
}

// ContainerFailed says that a container could not be prepared or started, and that
// nothing of it runs.
type ContainerFailed struct {
	Container string
	// Message is a sentence for the framework's user.
	Message string
}

// ContainerExited says that nothing of a container runs any more. The keeper holds the
// record until it is told to forget it.
type ContainerExited struct{ Exit *containerpb.Exit }

// ExecutorCall is a call of an executor, as far as it is sound by itself. It is answered
// by a Reply.
type ExecutorCall struct {
	// Principal is the container that the call was found to come from.
	Principal string
	Request   uint64
	// Stream is a new one that a SUBSCRIBE would open, never zero.
	Stream uint64
	Call   *executorpb.Call
}

// ExecutorGone says that an executor's event stream has ended, for whatever reason.
type ExecutorGone struct{ Stream uint64 }

// Stop says that the agent is about to leave. With KillTasks every task is killed; without,
// they go on and the next agent of the work dir finds them.
type Stop struct {
	Principal string
	KillTasks bool
}

// Tick says that NextDeadline has come.
type Tick struct{}

func (Recovered) event()        {}
func (Linked) event()           {}
func (Unlinked) event()         {}
func (FromMaster) event()       {}
func (KeeperUp) event()         {}
func (KeeperDown) event()       {}
func (ContainerStarted) event() {}
func (ContainerFailed) event()  {}
func (ContainerExited) event()  {}
func (ExecutorCall) event()     {}
func (ExecutorGone) event()     {}
func (Stop) event()             {}
func (Tick) event()             {}
