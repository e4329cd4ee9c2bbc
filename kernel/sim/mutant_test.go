package sim_test

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var long = flag.Bool("long", false, "plant every bug, not just a few")

// mutant is a bug that somebody could make. The simulation must find each.
type mutant struct {
	name, file string
	// old occurs once in the file, and becomes new.
	old, new string
	// few says that it is planted without -long, too.
	few bool
}

var mutants = []mutant{
	{name: "a task that ended keeps its resources", file: "core/task.go", few: true,
		old: "	if lifecycle.Terminal(t.state) {\n		m.release(t, out)\n	}\n", new: ""},
	{name: "a status leaves before it is on record", file: "node/task.go",
		old: "	t.latest = s\n	m.dirtyTasks[t.key] = true\n", new: "	t.latest = s\n"},
	{name: "an acknowledgement is not put on record", file: "node/task.go",
		old: "	t.pending = slices.Delete(t.pending, 0, 1)\n	m.dirtyTasks[t.key] = true\n", new: "	t.pending = slices.Delete(t.pending, 0, 1)\n"},
	{name: "a status is not sent again", file: "node/task.go",
		old: "t.resendAt = m.now.Add(t.resendAfter)", new: "t.resendAt = m.now.Add(1000 * time.Hour)"},
	{name: "the newest status is sent first", file: "node/task.go", few: true,
		old: "m.sendStatus(t, t.pending[0])\n	t.resendAt", new: "m.sendStatus(t, t.pending[len(t.pending)-1])\n	t.resendAt"},
	{name: "an offer that was rescinded stays", file: "core/offer.go",
		old: "	m.withdraw(o, refuse, out)\n}\n\nfunc (m *Machine) withdrawOffers", new: "}\n\nfunc (m *Machine) withdrawOffers"},
	{name: "a failover timeout is forgotten at a restart", file: "core/registry.go", few: true,
		old: "	m.frameworkDeadline(f, left)\n", new: ""},
	{name: "a second RUN launches again", file: "node/task.go",
		old: "if t := m.tasks[key]; t != nil {\n		m.stats.DuplicateRuns++", new: "if t := m.tasks[key]; t != nil && t.ended() {\n		m.stats.DuplicateRuns++"},
	{name: "a task that never reached its agent is believed in", file: "core/agent.go",
		old: "	m.dropMissing(a, held.Tasks, out)\n", new: ""},
	{name: "whatever ends has succeeded", file: "node/status.go",
		old: "		if exit.GetStatus() == 0 {", new: "		if exit.GetStatus() >= 0 {"},
	{name: "an agent introduces its newest status as the oldest", file: "node/link.go",
		old: "held.Unacknowledged = t.pending[0]", new: "held.Unacknowledged = t.pending[len(t.pending)-1]"},
	{name: "an answer tells what the scheduler has not been told", file: "core/task.go",
		old: "		state = t.told.GetState()\n", new: "		state = t.state\n"},
	{name: "an old checkpoint is welcome", file: "core/hello/known.go",
		old: "	case h.Registered < k.Confirmed:\n", new: "	case h.Registered < k.Confirmed && h.Incarnation == 0:\n"},
	{name: "a HELLO that was overtaken counts", file: "core/hello/known.go",
		old: "	case h.Incarnation < k.Incarnation, h.Incarnation == k.Incarnation && h.Stream < k.Stream:\n", new: "	case h.Incarnation < k.Incarnation:\n"},
	{name: "a removed framework waits for ends that nobody tells", file: "core/task.go",
		old: "		if lifecycle.Terminal(t.state) {\n			m.dropTask(t, out)", new: "		if lifecycle.Terminal(s.GetState()) {\n			m.dropTask(t, out)"},
	{name: "an agent whose welcome was lost is another", file: "core/hello/known.go",
		old: "	return k.Confirmed == 0 && k.Home != \"\"", new: "	return false && k.Home != \"\""},
	{name: "a registry that lost an agent knows that its tasks are unknown", file: "core/task.go",
		old: "		at = m.start.Add(m.cfg.ReregisterTimeout)\n", new: ""},
	{name: "an executor that comes back is given all its tasks again", file: "node/executor.go", few: true,
		old: "		t.launched = knows[string(t.key.Task)] || t.latest.GetState() != mesos.TaskState_TASK_STAGING\n", new: "		t.launched = knows[string(t.key.Task)]\n"},
	{name: "a task outlives its executor", file: "node/executorlife.go",
		old: "		m.report(t, s)\n		delete(e.tasks, t.key)\n", new: "		delete(e.tasks, t.key)\n"},
	{name: "an executor that has ended holds what it held", file: "core/executor.go",
		old: "	m.dropExecutor(e, out)\n}\n\n// executorSays", new: "}\n\n// executorSays"},
	{name: "an executor's status is acknowledged and not on record", file: "node/executor.go",
		old: "	m.reportCustom(t, s)\n}\n\n// hasSaid", new: "	m.reportCustom(t, s)\n	delete(m.dirtyTasks, t.key)\n}\n\n// hasSaid"},
	{name: "the uuids of a new start begin anew", file: "node/status.go",
		old: "1<<63|m.incarnation&(1<<22-1)<<40|", new: "1<<63|"},
}

// TestFindsPlantedBugs builds the simulation with one bug after the other in place of the
// right code, without touching it, and expects to be told.
func TestFindsPlantedBugs(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the go command, and time to build")
	}
	for _, m := range mutants {
		if !m.few && !*long {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			dir := t.TempDir()
			binary := filepath.Join(dir, "gantry-sim")
			build := exec.Command("go", "build", "-overlay", m.overlay(t, dir), "-o", binary, "../../cmd/gantry-sim")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			out, err := exec.Command(binary, "-seeds", "1000", "-hours", "0.1334", "-tail", "0").CombinedOutput()
			if err == nil {
				t.Fatalf("nothing was found in 1000 seeds: %s", out)
			}
			if !strings.Contains(string(out), "FAIL seed") {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}

// overlay writes what go build -overlay wants: the mutated copy in place of the file.
func (m mutant) overlay(t *testing.T, dir string) string {
	original, err := filepath.Abs(filepath.Join("..", filepath.FromSlash(m.file)))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		t.Fatalf("%s has %d times what is to be replaced:\n%s", m.file, n, m.old)
	}
	copied := filepath.Join(dir, "mutant.go")
	if err := os.WriteFile(copied, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {original: copied}})
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, list, 0o600); err != nil {
		t.Fatal(err)
	}
	return overlay
}
