package lifecycle

import (
	"slices"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Verdict tells what an update means for the state that is known.
type Verdict uint8

const (
	// Stale updates come too late, or are no states that a thing can be in: the known
	// state stays. A redelivery after the end is stale unless it tells the same end.
	Stale Verdict = iota
	// Repeated updates tell what is known; what else they carry (health, a message) may be new.
	Repeated
	// Advanced updates are the new state.
	Advanced
)

func (v Verdict) String() string {
	switch v {
	case Advanced:
		return "advanced"
	case Repeated:
		return "repeated"
	default:
		return "stale"
	}
}

// steps lists for every state those that may follow it. A state without successors is
// terminal; one that no state leads to and that is not a start is only ever an answer.
type steps[S comparable] map[S][]S

func (t steps[S]) next(from, update S) (S, Verdict) {
	switch {
	case slices.Contains(t[from], update):
		return update, Advanced
	case from == update:
		return from, Repeated
	default:
		return from, Stale
	}
}

// The table of tasks. A task moves from left to right, and may skip; whoever is silent
// for too long is UNREACHABLE and comes back in whichever state it is then. UNKNOWN is
// an answer about a task that nobody knows: whatever is heard of it later counts more,
// and it never replaces what is known.
var taskSteps = steps[mesos.TaskState]{
	mesos.TaskState_TASK_STAGING: ended(
		mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_KILLING,
		mesos.TaskState_TASK_UNREACHABLE),
	mesos.TaskState_TASK_STARTING: ended(
		mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_KILLING,
		mesos.TaskState_TASK_UNREACHABLE),
	mesos.TaskState_TASK_RUNNING: ended(
		mesos.TaskState_TASK_KILLING,
		mesos.TaskState_TASK_UNREACHABLE),
	mesos.TaskState_TASK_KILLING: ended(
		mesos.TaskState_TASK_UNREACHABLE),
	mesos.TaskState_TASK_UNREACHABLE: ended(
		mesos.TaskState_TASK_STAGING, mesos.TaskState_TASK_STARTING,
		mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_KILLING),
	mesos.TaskState_TASK_UNKNOWN: ended(
		mesos.TaskState_TASK_STAGING, mesos.TaskState_TASK_STARTING,
		mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_KILLING,
		mesos.TaskState_TASK_UNREACHABLE),
}

// taskEnds are the states that a task never leaves.
var taskEnds = []mesos.TaskState{
	mesos.TaskState_TASK_FINISHED,
	mesos.TaskState_TASK_FAILED,
	mesos.TaskState_TASK_KILLED,
	mesos.TaskState_TASK_ERROR,
	mesos.TaskState_TASK_LOST,
	mesos.TaskState_TASK_DROPPED,
	mesos.TaskState_TASK_GONE,
	mesos.TaskState_TASK_GONE_BY_OPERATOR,
}

// ended adds every end to the other successors: any task may end in any way.
func ended(others ...mesos.TaskState) []mesos.TaskState {
	return append(others, taskEnds...)
}

// NextTask returns the state of a task after an update and what the update was. A
// terminal state is never left.
func NextTask(from, update mesos.TaskState) (mesos.TaskState, Verdict) {
	return taskSteps.next(from, update)
}

// Terminal tells whether a task in this state has ended and holds nothing any more.
func Terminal(s mesos.TaskState) bool {
	return slices.Contains(taskEnds, s)
}

// Legacy returns the state as a framework without the PARTITION_AWARE capability is
// told it: whatever says that the cluster has lost sight of a task is TASK_LOST.
func Legacy(s mesos.TaskState) mesos.TaskState {
	switch s {
	case mesos.TaskState_TASK_UNREACHABLE,
		mesos.TaskState_TASK_DROPPED,
		mesos.TaskState_TASK_GONE,
		mesos.TaskState_TASK_GONE_BY_OPERATOR,
		mesos.TaskState_TASK_UNKNOWN:
		return mesos.TaskState_TASK_LOST
	default:
		return s
	}
}

// Offer is the state of an offer.
type Offer uint8

const (
	// Outstanding offers have a claim in the ledger; all others have none.
	Outstanding Offer = iota
	// Accepted by its framework, with or without operations.
	Accepted
	// Declined by its framework.
	Declined
	// Rescinded: taken back by the master, and the framework was told.
	Rescinded
	// Expired: taken back because the framework kept it for too long, and was told.
	Expired
	// Withdrawn: its framework is away, so there was nobody to tell.
	Withdrawn
)

func (o Offer) String() string {
	switch o {
	case Outstanding:
		return "outstanding"
	case Accepted:
		return "accepted"
	case Declined:
		return "declined"
	case Rescinded:
		return "rescinded"
	case Expired:
		return "expired"
	default:
		return "withdrawn"
	}
}

// The table of offers: each ends once, in one way.
var offerSteps = steps[Offer]{
	Outstanding: {Accepted, Declined, Rescinded, Expired, Withdrawn},
}

// NextOffer returns the state of an offer after it was to become update, and whether it
// did. An offer that has ended stays as it ended.
func NextOffer(from, update Offer) (Offer, Verdict) {
	return offerSteps.next(from, update)
}

// operationEnds are the states that an operation never leaves.
var operationEnds = []mesos.OperationState{
	mesos.OperationState_OPERATION_FINISHED,
	mesos.OperationState_OPERATION_FAILED,
	mesos.OperationState_OPERATION_ERROR,
	mesos.OperationState_OPERATION_DROPPED,
	mesos.OperationState_OPERATION_GONE_BY_OPERATOR,
}

// The table of operations. RECOVERING is an operation whose agent is expected back
// after a change of master. UNKNOWN and UNSUPPORTED are answers, as UNKNOWN is for tasks.
var operationSteps = steps[mesos.OperationState]{
	mesos.OperationState_OPERATION_PENDING:     settled(mesos.OperationState_OPERATION_UNREACHABLE),
	mesos.OperationState_OPERATION_RECOVERING:  settled(mesos.OperationState_OPERATION_PENDING, mesos.OperationState_OPERATION_UNREACHABLE),
	mesos.OperationState_OPERATION_UNREACHABLE: settled(mesos.OperationState_OPERATION_PENDING),
	mesos.OperationState_OPERATION_UNKNOWN: settled(mesos.OperationState_OPERATION_PENDING,
		mesos.OperationState_OPERATION_RECOVERING, mesos.OperationState_OPERATION_UNREACHABLE),
	mesos.OperationState_OPERATION_UNSUPPORTED: settled(mesos.OperationState_OPERATION_PENDING,
		mesos.OperationState_OPERATION_RECOVERING, mesos.OperationState_OPERATION_UNREACHABLE),
}

// settled adds every end to the other successors.
func settled(others ...mesos.OperationState) []mesos.OperationState {
	return append(others, operationEnds...)
}

// NextOperation returns the state of an operation after an update and what the update
// was. A terminal state is never left.
func NextOperation(from, update mesos.OperationState) (mesos.OperationState, Verdict) {
	return operationSteps.next(from, update)
}

// TerminalOperation tells whether an operation in this state has ended.
func TerminalOperation(s mesos.OperationState) bool {
	return slices.Contains(operationEnds, s)
}
