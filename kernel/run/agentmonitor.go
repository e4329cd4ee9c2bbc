package run

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/api"
	"github.com/gantry-project/gantry/kernel/lifecycle"
	"github.com/gantry-project/gantry/kernel/node"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Meter measures containers.
type Meter interface {
	// Sample tells what a container has used until now. The error wraps fs.ErrNotExist
	// where it has not started, or is gone.
	Sample(container string, now time.Time) (*mesos.ResourceStatistics, error)
}

// Containers lists the containers of executors and of tasks that have not ended, with what
// they use. Limits are what was promised, whatever enforces them.
func (a *Agent) Containers(ctx context.Context) ([]api.Container, error) {
	s, err := a.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	var list []api.Container
	promised := map[string][]*mesos.Resource{} // by container: an executor's and its tasks', or a task's
	for _, e := range s.Executors {
		list = append(list, containerOfExecutor(e))
		promised[e.Container] = slices.Clone(e.Info.GetResources())
	}
	for _, t := range s.Tasks {
		if lifecycle.Terminal(t.Latest.GetState()) {
			continue
		}
		if t.Info.GetExecutor() == nil {
			list = append(list, containerOfTask(t))
		}
		promised[t.Container] = append(promised[t.Container], t.Info.GetResources()...)
	}
	for i := range list {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		list[i].Statistics = a.sample(list[i].ID, promised[list[i].ID])
	}
	return list, nil
}

func containerOfExecutor(e node.Executor) api.Container {
	return api.Container{
		ID:        e.Container,
		Framework: e.Framework.GetId().GetValue(),
		Executor:  e.Info.GetExecutorId().GetValue(),
		Name:      e.Info.GetName(),
		Source:    e.Info.GetSource(),
		Status:    &mesos.ContainerStatus{ContainerId: &mesos.ContainerID{Value: &e.Container}},
	}
}

func containerOfTask(t node.Task) api.Container {
	return api.Container{
		ID:        t.Container,
		Framework: t.Framework.GetId().GetValue(),
		Executor:  t.Info.GetTaskId().GetValue(),
		Name:      executorName(t.Info),
		Source:    t.Info.GetTaskId().GetValue(),
		Status:    t.Latest.GetContainerStatus(),
	}
}

// sample measures a container, if it can be measured.
func (a *Agent) sample(container string, promised []*mesos.Resource) *mesos.ResourceStatistics {
	if a.cfg.Meter == nil {
		return nil
	}
	s, err := a.cfg.Meter.Sample(container, a.cfg.Now())
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			a.cfg.Log.Warn("a container can't be measured", "container", container, "error", err)
		}
		return nil
	}
	s.CpusLimit, s.MemLimitBytes = nil, nil
	if cpus := sum(promised, "cpus"); cpus > 0 {
		s.CpusLimit = &cpus
	}
	if mem := sum(promised, "mem"); mem > 0 {
		s.MemLimitBytes = proto.Uint64(uint64(math.Round(mem * (1 << 20))))
	}
	return s
}

// sum is how much there is of a scalar resource.
func sum(resources []*mesos.Resource, name string) float64 {
	var total float64
	for _, r := range resources {
		if r.GetName() == name {
			total += r.GetScalar().GetValue()
		}
	}
	return total
}

// executorName is what clients know the executor of a command by: it begins with the
// task's id and ends with the beginning of the command.
func executorName(info *mesos.TaskInfo) string {
	const longest, cut = 15, 12 // bytes
	short := func(text string) string {
		if len(text) <= longest {
			return text
		}
		end := cut
		for !utf8.RuneStart(text[end]) {
			end--
		}
		return text[:end] + "..."
	}
	command := info.GetCommand()
	text := "[" + short(strings.Join(append([]string{command.GetValue()}, command.GetArguments()...), ", ")) + "]"
	if command.GetShell() {
		text = "sh -c '" + short(command.GetValue()) + "'"
	}
	return "Command Executor (Task: " + info.GetTaskId().GetValue() + ") (Command: " + text + ")"
}
