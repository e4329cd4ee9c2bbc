package core

import (
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/step"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// Event is something that happened outside. The set is closed: the types below.
type Event interface{ event() }

// Recovered comes first and once: the registry as the store has it, in key order.
type Recovered struct {
	Entries []step.Write
}

// AgentHello is the first message of an agent's stream. Conn is the shell's name for the
// stream, never used again.
type AgentHello struct {
	Conn      uint64
	Principal string
	Hello     *linkpb.Hello
}

// AgentMessage is a later message of the stream.
type AgentMessage struct {
	Conn    uint64
	Message *linkpb.ToMaster
}

// AgentGone says that the stream has ended.
type AgentGone struct {
	Conn uint64
}

// Call is a scheduler call that passed the checks which need no state (rules.Call). It is
// answered by exactly one Reply with its Request.
type Call struct {
	Request   uint64
	Principal string
	// Stream is, for SUBSCRIBE, a fresh name for the new subscription; for all others what
	// the caller claims, empty if nothing.
	Stream id.Stream
	// Plugin names the framework plugin that calls; empty for HTTP.
	Plugin string
	Call   *schedulerpb.Call
}

// StreamGone says that a subscription's connection broke.
type StreamGone struct {
	Stream id.Stream
}

// AllocatorUp puts an allocator into office: it gets a snapshot and a new epoch.
type AllocatorUp struct {
	// Config is the plugin's table of plugins.toml as JSON.
	Config []byte
}

// AllocatorDown says that the allocator is gone; no new offers are made until the next.
type AllocatorDown struct{}

// Proposal is what the allocator in office proposes.
type Proposal struct {
	Proposal *allocatorpb.FromAllocator
}

// KillTask is an operator's wish to end a task.
type KillTask struct {
	Request   uint64
	Principal string
	Task      id.TaskKey
}

// Teardown is an operator's wish to end a framework. It is answered by one Reply.
type Teardown struct {
	Request   uint64
	Principal string
	Framework id.Framework
}

// SetWeights is an operator's wish to weigh roles. It is answered by one Reply.
type SetWeights struct {
	Request   uint64
	Principal string
	Weights   []*mesos.WeightInfo
}

// Watch makes a stream, of a name never used before, follow the cluster: its first News is
// the state, and all that happens from then on is told.
type Watch struct {
	Principal string
	Stream    id.Stream
}

// WatcherGone says that nobody reads the stream of a Watch any more.
type WatcherGone struct {
	Stream id.Stream
}

// Tick carries nothing but the time.
type Tick struct{}

func (Recovered) event()     {}
func (AgentHello) event()    {}
func (AgentMessage) event()  {}
func (AgentGone) event()     {}
func (Call) event()          {}
func (StreamGone) event()    {}
func (AllocatorUp) event()   {}
func (AllocatorDown) event() {}
func (Proposal) event()      {}
func (KillTask) event()      {}
func (Teardown) event()      {}
func (SetWeights) event()    {}
func (Watch) event()         {}
func (WatcherGone) event()   {}
func (Tick) event()          {}

// Effects is what must be done about the events stepped so far, in contract order: all of
// Persist is durable before anything else leaves; then each list in its own order.
type Effects struct {
	Persist []step.Write
	Send    []AgentSend
	Ask     []AllocatorAsk
	Notify  []Notice
	Replies []Reply
	News    []News
	// Launched and Dropped are for who traces tasks; nothing depends on them.
	Launched []Launched
	Dropped  []id.TaskKey
}

// Reset empties the effects and keeps their memory.
func (e *Effects) Reset() {
	clear(e.Persist)
	clear(e.Send)
	clear(e.Ask)
	clear(e.Notify)
	clear(e.News)
	e.Persist, e.Send, e.Ask = e.Persist[:0], e.Send[:0], e.Ask[:0]
	e.Notify, e.Replies, e.News = e.Notify[:0], e.Replies[:0], e.News[:0]
	e.Launched, e.Dropped = e.Launched[:0], e.Dropped[:0]
}

// AgentSend is a message for an agent's stream; Close ends the stream after it.
type AgentSend struct {
	Conn    uint64
	Message *linkpb.ToAgent
	Close   bool
}

// AllocatorAsk is a snapshot or a delta for the allocator of an epoch; exactly one is set.
// The shell batches deltas and numbers the revisions.
type AllocatorAsk struct {
	Epoch    uint64
	Snapshot *allocatorpb.Snapshot
	Delta    *allocatorpb.Delta
}

// Notice is an event for a subscription; Close ends the subscription after it. Event may
// be nil with Close. Framework is whose the subscription is, in all but a last notice.
type Notice struct {
	Framework id.Framework
	Stream    id.Stream
	Event     *schedulerpb.Event
	Close     bool
}

// News is an event for one watcher, or for all that watch at this point if Stream is
// empty. Close ends the watcher's stream after it; Event may be nil with Close.
type News struct {
	Stream id.Stream
	Event  *masterpb.Event
	Close  bool
}

// Reply answers a Call, or the wish of an operator, with the status and text of the HTTP API.
type Reply struct {
	Request uint64
	Status  int
	Message string
}

// Launched says that a task is known from now on, until it is Dropped. Offered is when
// the last of the offers was made that it was launched with, Accepted when they were spent.
type Launched struct {
	Task              id.TaskKey
	Agent             id.Agent
	Offered, Accepted step.Time
}
