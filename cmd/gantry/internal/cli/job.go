package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
)

func (s *session) jobCommand() *cobra.Command {
	group := parent("job", "Jobs: commands that begin by the clock, after each other or by hand")
	group.Example = `  gantry job add nightly --cron '0 3 * * *' --zone Europe/Berlin -- ./backup --all
  gantry job add report --parent nightly -- ./report
  gantry job run nightly
  gantry job history nightly
  gantry job logs nightly`
	group.AddCommand(s.jobAddCommand(), s.jobListCommand(), s.jobShowCommand(), s.jobRunCommand(),
		s.jobHistoryCommand(), s.jobLogsCommand(), s.jobKillCommand(), s.jobRemoveCommand())
	for _, c := range group.Commands() {
		s.jsonFlag(c)
	}
	return group
}

// onChronos calls do with a client of Chronos and says what a failure means.
func (s *session) onChronos(ctx context.Context, do func(*client.Client) error) error {
	c, err := s.chronos(ctx)
	if err != nil {
		return err
	}
	return elsewhere("Chronos", do(c))
}

// newJob is what `job add` was told.
type newJob struct {
	client.NewJob
	cron string
}

func (s *session) jobAddCommand() *cobra.Command {
	var job newJob
	c := &cobra.Command{
		Use:   "add NAME [flags] -- COMMAND [ARG...]",
		Short: "Add a job, or replace it; without a schedule it runs once, now",
		Long: `Adds a job, or replaces the one of that name. It begins by the clock (--schedule or --cron) or each
time its parents have run well (--parent); with none of them it runs once, now.

A COMMAND that is one word is a line for a shell; several words are a program and its arguments.

--schedule is R[n]/START/PERIOD of ISO 8601: R5/2026-03-01T03:00:00Z/P1D runs five times, day by day.
--cron has five fields: minute, hour, day of the month, month, day of the week.
--zone says whose clock; days are counted on its calendar, whatever its clocks do in spring.`,
		Example: `  gantry job add nightly --cron '0 3 * * 1-5' --zone Europe/Berlin -- ./backup --all
  gantry job add tick --schedule R/2026-03-01T00:00:00Z/PT10S -- 'date; uptime'
  gantry job add report --parent nightly -- ./report`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.MinimumNArgs(2)(cmd, args); err != nil {
				return err
			}
			return job.read(args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.onChronos(cmd.Context(), func(c *client.Client) error {
				if err := c.PutJob(cmd.Context(), job.NewJob); err != nil {
					return err
				}
				return s.show(job.NewJob, func(t *table) {
					t.line("%s is added; `gantry job show %s` tells when it begins", job.Name, job.Name)
				})
			})
		},
	}
	flags := c.Flags()
	flags.StringVar(&job.Schedule, "schedule", "", "R[n]/START/PERIOD")
	flags.StringVar(&job.cron, "cron", "", "'MINUTE HOUR DAY MONTH WEEKDAY'")
	flags.StringVar(&job.Zone, "zone", "", "time zone, such as Europe/Berlin (default: that of START, or UTC)")
	flags.StringArrayVar(&job.Parents, "parent", nil, "a job after which it runs; may be repeated")
	flags.Float64Var(&job.CPUs, "cpus", 0.1, "cpus of a run")
	flags.Float64Var(&job.Mem, "mem", 128, "MiB of a run")
	flags.IntVar(&job.Retries, "retries", 2, "how often a run that fails is tried again")
	flags.BoolVar(&job.Concurrent, "concurrent", false, "a run may begin before the one before it has ended")
	return c
}

// read takes the words of the command line.
func (j *newJob) read(args []string) error {
	j.Name, j.Command = args[0], args[1]
	j.Shell = len(args) == 2
	if !j.Shell {
		j.Arguments = args[1:]
	}
	if (j.Schedule != "" && j.cron != "") || (j.Schedule+j.cron != "" && len(j.Parents) > 0) {
		return errors.New("a job begins by one of --schedule, --cron and --parent")
	}
	if j.cron != "" {
		j.Schedule = "cron " + j.cron
	}
	if j.Zone != "" && j.Schedule == "" {
		return errors.New("--zone is for --schedule and --cron")
	}
	return nil
}

func (s *session) jobListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Every job, when it begins next and how it went last",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.onChronos(cmd.Context(), func(c *client.Client) error {
				jobs, err := c.Jobs(cmd.Context())
				if err != nil {
					return err
				}
				return s.show(jobs, func(t *table) {
					t.row("JOB", "LAST", "NOW", "NEXT", "GOOD", "BAD", "BEGINS")
					for _, j := range jobs {
						t.row(j.Job.Name, j.Status, nowWord(j), moment(j.Next), strconv.FormatUint(j.Job.SuccessCount, 10),
							strconv.FormatUint(j.Job.ErrorCount, 10), begins(j.Job))
					}
				})
			})
		},
	}
}

// nowWord is what a job does now.
func nowWord(j client.Job) string {
	if j.Job.Disabled && j.State == "idle" {
		return "disabled"
	}
	return j.State
}

// begins says by what a job begins.
func begins(j client.JobDefinition) string {
	if len(j.Parents) > 0 {
		return "after " + strings.Join(j.Parents, ", ")
	}
	return strings.TrimSpace(j.Schedule + " " + j.Zone)
}

// moment writes a time to the second; the zero time is empty.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// withJob gets one job and shows it.
func (s *session) withJob(ctx context.Context, name string, draw func(*table, client.Job)) error {
	return s.onChronos(ctx, func(c *client.Client) error {
		job, err := c.Job(ctx, name)
		if err != nil {
			return err
		}
		return s.show(job, func(t *table) { draw(t, job) })
	})
}

func (s *session) jobShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show JOB",
		Short: "One job and its last runs",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.withJob(cmd.Context(), args[0], drawJob)
		},
	}
}

// shownRuns is how many of the history `job show` shows.
const shownRuns = 5

func drawJob(t *table, j client.Job) {
	t.line("%s\t%s", j.Job.Name, nowWord(j))
	t.line("begins\t%s", begins(j.Job))
	if !j.Next.IsZero() {
		t.line("next\t%s", moment(j.Next))
	}
	if j.Why != "" {
		t.line("waits\t%s", j.Why)
	}
	if len(j.Children) > 0 {
		t.line("then\t%s", strings.Join(j.Children, ", "))
	}
	t.line("each\t%s cpus, %s MB, %s retries", number(j.Job.CPUs), number(j.Job.Mem), strconv.Itoa(j.Job.Retries))
	t.line("command\t%s", commandLine(j.Job))
	t.line("so far\t%s good, %s bad", strconv.FormatUint(j.Job.SuccessCount, 10), strconv.FormatUint(j.Job.ErrorCount, 10))
	if j.Skipped > 0 {
		t.line("skipped\t%s, as a run had not ended; last at %s", strconv.FormatUint(j.Skipped, 10), moment(j.LastSkipped))
	}
	j.History = j.History[:min(shownRuns, len(j.History))]
	if len(j.Runs)+len(j.History) > 0 {
		t.line("")
		drawRuns(t, j)
	}
}

// commandLine is what a job runs, as one line.
func commandLine(j client.JobDefinition) string {
	if j.Shell || len(j.Arguments) == 0 {
		return j.Command
	}
	return strings.Join(append([]string{j.Command}, j.Arguments[1:]...), " ")
}

func drawRuns(t *table, j client.Job) {
	t.row("RUN", "DUE", "ATTEMPT", "BY", "STATE", "EXIT", "TOOK", "HOST", "MESSAGE")
	for _, r := range slices.Concat(newestFirst(j.Runs), j.History) {
		exit, took := "", ""
		if r.ExitStatus != nil {
			exit = strconv.Itoa(*r.ExitStatus)
		}
		if !r.Started.IsZero() && !r.Ended.IsZero() {
			took = r.Ended.Sub(r.Started).Round(time.Millisecond).String()
		}
		t.row(strconv.FormatUint(r.Number, 10), moment(r.Due), strconv.Itoa(r.Attempt), r.Cause, stateWord(r.State), exit, took, r.Host, r.Message)
	}
}

func newestFirst(runs []client.JobRun) []client.JobRun {
	runs = slices.Clone(runs)
	slices.Reverse(runs)
	return runs
}

func (s *session) jobHistoryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "history JOB",
		Short: "The runs of a job, newest first",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.withJob(cmd.Context(), args[0], drawRuns)
		},
	}
}

func (s *session) jobRunCommand() *cobra.Command {
	var arguments string
	c := &cobra.Command{
		Use:   "run JOB",
		Short: "Start a job now, a disabled one too",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.onChronos(cmd.Context(), func(c *client.Client) error {
				run, err := c.RunJob(cmd.Context(), args[0], arguments)
				if err != nil {
					return err
				}
				return s.show(map[string]any{"job": args[0], "run": run}, func(t *table) {
					t.line("%s begins: run %s", args[0], strconv.FormatUint(run, 10))
				})
			})
		},
	}
	c.Flags().StringVar(&arguments, "arguments", "", "words to add to the command")
	return c
}

func (s *session) jobLogsCommand() *cobra.Command {
	var number uint64
	var follow, raw bool
	c := &cobra.Command{
		Use:   "logs JOB",
		Short: "What a run has written: the last that began, or --run",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var run client.JobRun
			err := s.onChronos(cmd.Context(), func(c *client.Client) error {
				job, err := c.Job(cmd.Context(), args[0])
				if err == nil {
					run, err = findRun(job, number)
				}
				return err
			})
			if err != nil {
				return err
			}
			return s.taskLogs(cmd.Context(), run.Task, follow, raw)
		},
	}
	c.Flags().Uint64Var(&number, "run", 0, "number of a run, as `gantry job history` shows it")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the run ends")
	c.Flags().BoolVar(&raw, "raw", false, "pass control characters on to the terminal")
	return c
}

// findRun is the run of a number, or for 0 the last that was on a host.
func findRun(job client.Job, number uint64) (client.JobRun, error) {
	for _, r := range slices.Concat(newestFirst(job.Runs), job.History) {
		switch {
		case number == 0 && r.Host != "":
			return r, nil
		case number != 0 && r.Number == number && r.Host == "":
			return r, fmt.Errorf("run %d of %s has never begun", number, job.Job.Name)
		case number != 0 && r.Number == number:
			return r, nil
		}
	}
	if number == 0 {
		return client.JobRun{}, fmt.Errorf("no run of %s has begun", job.Job.Name)
	}
	return client.JobRun{}, fmt.Errorf("%s has no run %d: `gantry job history %s` shows those that are kept", job.Job.Name, number, job.Job.Name)
}

func (s *session) jobKillCommand() *cobra.Command {
	return s.jobVerb("kill", "End the runs of a job; the job stays", "killed", "the runs of %s are ending", (*client.Client).KillJob)
}

func (s *session) jobRemoveCommand() *cobra.Command {
	return s.jobVerb("remove", "Remove a job and end its runs", "removed", "%s is removed; its runs are ending", (*client.Client).RemoveJob)
}

// jobVerb is a command that does one thing to a job.
func (s *session) jobVerb(use, short, done, sentence string, do func(*client.Client, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use:   use + " JOB",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.onChronos(cmd.Context(), func(c *client.Client) error {
				if err := do(c, cmd.Context(), args[0]); err != nil {
					return err
				}
				return s.show(map[string]any{"job": args[0], done: true}, func(t *table) { t.line(sentence, args[0]) })
			})
		},
	}
}
