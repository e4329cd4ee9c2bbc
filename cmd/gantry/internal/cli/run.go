package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os/user"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// exitNotRun is the status of `gantry run` when the command did not run, so that it can be told from the command's own.
const exitNotRun = 125

const runHelp = `Runs one task on the cluster, follows its output, and ends as it ended.

The task's stdout goes to stdout and its stderr to stderr; on a terminal control characters are
escaped, unless --raw is given. With --image the command runs on the programs of an image: in place
of what the image would run, or that itself where there is no command. With --wasm a WASM module is
what runs, with the arguments given; this command lets agents fetch it from here. Ctrl-C ends the task.
With --json the output goes to stderr and one object that tells how the task ended goes to stdout.

Exit status: that of the task, which for a module's fault is 134; 128 and the signal's number when a signal ended it (137 when it
wanted more memory than it had); 125 when it could not be run at all; 3 when no cluster answers.`

// job is what a person asks `gantry run` for.
type job struct {
	name  string
	argv  []string
	cpus  float64
	memMB float64
	env   []string // NAME=VALUE
	uris  []string
	image string        // empty: the host's own programs
	wasm  string        // file of a module; empty: none
	wait  time.Duration // for an agent with room
	raw   bool
}

func (s *session) runCommand() *cobra.Command {
	var j job
	c := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARGUMENT...]",
		Short: "Run one task: its output and exit status become yours",
		Long:  runHelp,
		Example: `  gantry run -- sh -c 'echo hi; exit 3'
  gantry run --image debian:12-slim -- cat /etc/os-release
  gantry run --image docker-archive:/srv/images/app.tar
  gantry run --wasm tally.wasm --uri file:///srv/artifacts/book -- book
  gantry run --cpus 1 --mem 256 --env LEVEL=9 -- sh -c 'seq 1000000 | gzip -$LEVEL | wc -c'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && j.image == "" && j.wasm == "" {
				return errors.New("there is no command to run: gantry run -- COMMAND [ARGUMENT...]")
			}
			return j.validate()
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			j.argv = args
			err := s.runJob(cmd.Context(), j)
			var status ExitStatus
			if err == nil || errors.As(err, &status) || errors.Is(err, client.ErrUnreachable) {
				return err
			}
			fmt.Fprintf(terminal{w: s.err, on: isTerminal(s.err)}, "gantry: %v\n", err)
			return ExitStatus(exitNotRun)
		},
	}
	flags := c.Flags()
	flags.SetInterspersed(false) // what follows the command's name is the command's
	flags.StringVar(&j.name, "name", "", "name of the task (default: that of the command)")
	flags.Float64Var(&j.cpus, "cpus", 0.1, "processors")
	flags.Float64Var(&j.memMB, "mem", 32, "memory in MB; a task that wants more is ended")
	flags.StringArrayVarP(&j.env, "env", "e", nil, "NAME=VALUE for its environment, any number of times")
	flags.StringArrayVar(&j.uris, "uri", nil, "file to fetch into its sandbox, file:///PATH below the agents' fetch root")
	flags.StringVar(&j.image, "image", "", "NAME[:TAG] in a registry, oci:/PATH[:TAG] or docker-archive:/PATH[:NAME]")
	flags.StringVar(&j.wasm, "wasm", "", "file with a WASM module (WASI preview 1) to run; its / is its sandbox")
	flags.DurationVar(&j.wait, "wait", 30*time.Second, "how long to wait for an agent with room")
	flags.BoolVar(&j.raw, "raw", false, "pass control characters on to the terminal")
	s.jsonFlag(c)
	return c
}

func (j job) validate() error {
	if !(j.cpus > 0) || !(j.memMB > 0) { // NaN is refused too
		return errors.New("a task needs processors and memory: give --cpus and --mem above 0")
	}
	if j.wasm != "" && j.image != "" {
		return errors.New("a task is of --image or of --wasm, not of both")
	}
	for _, pair := range j.env {
		if key, _, found := strings.Cut(pair, "="); !found || key == "" {
			return fmt.Errorf("--env %q is not of the form NAME=VALUE", pair)
		}
	}
	for _, uri := range j.uris {
		if u, err := url.Parse(uri); err != nil || u.Scheme == "" {
			return fmt.Errorf("--uri %q is not of the form file:///PATH", uri)
		}
	}
	return nil
}

func (s *session) runJob(ctx context.Context, j job) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	if j.name == "" {
		j.name = path.Base(cmp.Or(j.wasm, append(j.argv, j.image)[0]))
	}
	// Not ctx: its end is the person's Ctrl-C, after which the task is ended in good order.
	conversation, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	var module *moduleServer
	if j.wasm != "" {
		if module, err = serveModule(ctx, j.wasm, c.Master()); err != nil {
			return err
		}
		defer module.close()
	}
	scheduler, err := c.Subscribe(conversation, frameworkInfo(j))
	if err != nil {
		return err
	}

	to := s.outputs(j.raw)
	if s.json {
		to.stdout = to.stderr
	}
	r := &runner{client: c, scheduler: scheduler, job: j, module: module, to: to, notices: to.stderr}
	r.nameTask()
	end, err := r.run(ctx, conversation)
	if err := r.tearDown(conversation); err != nil {
		fmt.Fprintf(r.notices, "gantry: %v\n", err)
	}
	if err != nil {
		return err
	}
	return s.report(end, r)
}

// frameworkInfo describes a framework that lives as long as its connection: a command that is gone has no task.
func frameworkInfo(j job) *mesos.FrameworkInfo {
	name := "root"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	info := &mesos.FrameworkInfo{
		User:  &name,
		Name:  proto.String("gantry run " + j.name),
		Roles: []string{"*"},
	}
	for _, c := range []mesos.FrameworkInfo_Capability_Type{
		mesos.FrameworkInfo_Capability_MULTI_ROLE,
		mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT,
		mesos.FrameworkInfo_Capability_PARTITION_AWARE,
		mesos.FrameworkInfo_Capability_TASK_KILLING_STATE,
	} {
		info.Capabilities = append(info.Capabilities, &mesos.FrameworkInfo_Capability{Type: c.Enum()})
	}
	return info
}

// nameTask chooses a task id that no earlier attempt has had.
func (r *runner) nameTask() {
	var random [4]byte
	rand.Read(random[:]) // never fails
	r.task = strings.Map(idRune, r.job.name) + "." + hex.EncodeToString(random[:])
}

// idRune keeps what may stand in an id.
func idRune(c rune) rune {
	if c <= ' ' || c == '/' || c == '\\' || c == 0x7F {
		return '-'
	}
	return c
}

// outcome is what --json tells.
type outcome struct {
	TaskID      string `json:"task_id"`
	FrameworkID string `json:"framework_id"`
	AgentID     string `json:"agent_id"`
	State       string `json:"state"`
	ExitStatus  int    `json:"exit_status"`
	Message     string `json:"message,omitempty"`
}

// report tells how the task ended where its exit status alone does not, and returns it.
func (s *session) report(end *mesos.TaskStatus, r *runner) error {
	status, explained := exitStatus(end, r.interrupted)
	if !explained {
		fmt.Fprintf(r.notices, "gantry: the task ended as %s: %s\n", shortState(end.GetState()), explain(end, r.job))
	}
	if s.json {
		v := outcome{
			TaskID: r.task, FrameworkID: r.scheduler.FrameworkID(), AgentID: end.GetAgentId().GetValue(),
			State: end.GetState().String(), ExitStatus: status, Message: end.GetMessage(),
		}
		if err := s.show(v, nil); err != nil {
			return err
		}
	}
	if status == 0 {
		return nil
	}
	return ExitStatus(status)
}

func explain(end *mesos.TaskStatus, j job) string {
	if end.GetReason() == mesos.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY {
		return fmt.Sprintf("it wanted more than its %s MB of memory; give it more with --mem (%s)", number(j.memMB), end.GetMessage())
	}
	if end.GetMessage() != "" {
		return end.GetMessage()
	}
	return "the agent gave no reason"
}
