package lifecycle

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

var rewrite = flag.Bool("rewrite", false, "write testdata anew from what the tables say")

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; run with -rewrite if it should. Now it is\n%s", path, got)
	}
}

// matrix shows what every update does in every state.
func matrix[S fmt.Stringer](states []S, next func(from, update S) (S, Verdict)) []byte {
	var out bytes.Buffer
	short := func(s S) string {
		return strings.TrimPrefix(strings.TrimPrefix(s.String(), "TASK_"), "OPERATION_")
	}
	w := tabwriter.NewWriter(&out, 0, 0, 1, ' ', 0)
	fmt.Fprint(w, "state \\ update")
	for _, update := range states {
		fmt.Fprint(w, "\t", short(update))
	}
	fmt.Fprintln(w)
	for _, from := range states {
		fmt.Fprint(w, short(from))
		for _, update := range states {
			_, verdict := next(from, update)
			fmt.Fprint(w, "\t", verdict)
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // into memory
	return out.Bytes()
}

func enum[S ~int32](names map[int32]string) []S {
	var all []S
	for _, n := range slices.Sorted(maps.Keys(names)) {
		all = append(all, S(n))
	}
	return all
}

func taskStates() []mesos.TaskState { return enum[mesos.TaskState](mesos.TaskState_name) }

func operationStates() []mesos.OperationState {
	return enum[mesos.OperationState](mesos.OperationState_name)
}

func offerStates() []Offer {
	return []Offer{Outstanding, Accepted, Declined, Rescinded, Expired, Withdrawn}
}

func TestMatrices(t *testing.T) {
	golden(t, "tasks.txt", matrix(taskStates(), NextTask))
	golden(t, "offers.txt", matrix(offerStates(), NextOffer))
	golden(t, "operations.txt", matrix(operationStates(), NextOperation))
}

// TestVerdictsAgreeWithStates holds for every pair of every table.
func TestVerdictsAgreeWithStates(t *testing.T) {
	t.Run("tasks", func(t *testing.T) { verdicts(t, taskStates(), NextTask) })
	t.Run("offers", func(t *testing.T) { verdicts(t, offerStates(), NextOffer) })
	t.Run("operations", func(t *testing.T) { verdicts(t, operationStates(), NextOperation) })
}

func verdicts[S comparable](t *testing.T, states []S, next func(from, update S) (S, Verdict)) {
	for _, from := range states {
		for _, update := range states {
			got, verdict := next(from, update)
			want := from
			if verdict == Advanced {
				want = update
			}
			if got != want {
				t.Errorf("%v, told %v, is %v though the update was %v", from, update, got, verdict)
			}
			if (verdict == Repeated) != (from == update) {
				t.Errorf("%v, told %v: %v", from, update, verdict)
			}
		}
	}
}

func TestEndsAreFinal(t *testing.T) {
	for _, from := range taskStates() {
		for _, update := range taskStates() {
			_, verdict := NextTask(from, update)
			if Terminal(from) && verdict == Advanced {
				t.Errorf("%v became %v", from, update)
			}
			if !Terminal(from) && Terminal(update) && verdict != Advanced {
				t.Errorf("%v can't end as %v", from, update)
			}
		}
	}
	for _, from := range operationStates() {
		for _, update := range operationStates() {
			_, verdict := NextOperation(from, update)
			if TerminalOperation(from) && verdict == Advanced {
				t.Errorf("%v became %v", from, update)
			}
			if !TerminalOperation(from) && TerminalOperation(update) && verdict != Advanced {
				t.Errorf("%v can't end as %v", from, update)
			}
		}
	}
}

// TestNeverBackwards: without the detour through UNREACHABLE, no order of updates
// brings a task to a state that it had before.
func TestNeverBackwards(t *testing.T) {
	var follow func(path []mesos.TaskState)
	follow = func(path []mesos.TaskState) {
		from := path[len(path)-1]
		for _, update := range taskStates() {
			if update == mesos.TaskState_TASK_UNREACHABLE {
				continue
			}
			next, verdict := NextTask(from, update)
			if verdict != Advanced {
				continue
			}
			if slices.Contains(path, next) {
				t.Fatalf("%v comes after %v", next, path)
			}
			follow(append(slices.Clone(path), next))
		}
	}
	follow([]mesos.TaskState{mesos.TaskState_TASK_STAGING})
}

func TestAnswersAreNoStates(t *testing.T) {
	for _, from := range taskStates() {
		if _, verdict := NextTask(from, mesos.TaskState_TASK_UNKNOWN); verdict == Advanced {
			t.Errorf("%v became unknown", from)
		}
	}
	for _, from := range operationStates() {
		for _, answer := range []mesos.OperationState{mesos.OperationState_OPERATION_UNKNOWN, mesos.OperationState_OPERATION_UNSUPPORTED} {
			if _, verdict := NextOperation(from, answer); verdict == Advanced {
				t.Errorf("%v became %v", from, answer)
			}
		}
	}
}

func TestStatesFromTheFutureAreStale(t *testing.T) {
	if got, verdict := NextTask(mesos.TaskState_TASK_RUNNING, 99); got != mesos.TaskState_TASK_RUNNING || verdict != Stale {
		t.Errorf("got %v, %v", got, verdict)
	}
}

func TestLegacy(t *testing.T) {
	var out bytes.Buffer
	for _, s := range taskStates() {
		fmt.Fprintf(&out, "%v %v\n", s, Legacy(s))
		if Terminal(s) && !Terminal(Legacy(s)) {
			t.Errorf("%v has ended, %v has not", s, Legacy(s))
		}
	}
	golden(t, "legacy.txt", out.Bytes())
}
