package e2e

import (
	"context"
	"fmt"
	"time"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
)

// tortureManifest are the default plugins, with a Chronos that does not wait long before it tries again; it wants the ports of
// Marathon and Chronos.
const tortureManifest = `[plugin.drf]
kind = "allocator"

[plugin.marathon]
kind   = "framework"
listen = "127.0.0.1:%d"

[plugin.chronos]
kind   = "framework"
listen = "127.0.0.1:%d"

[plugin.chronos.config]
retry_seconds = 1

[plugin.webui]
kind = "service"
home = true

[plugin.oci]
kind   = "containerizer"
images = ["docker"]

[plugin.wasm]
kind   = "containerizer"
images = ["wasm"]
runner = "containerizer-wasm-run"
`

const beats = 3

// beginPulse adds a job that runs each second, a few times, while blows fall.
func (o *ordeal) beginPulse() {
	api, err := o.client()
	if err != nil {
		o.t.Fatal(err)
	}
	o.pulse = fmt.Sprintf("pulse-%d", o.round)
	err = api.PutJob(o.t.Context(), client.NewJob{
		Name: o.pulse, Command: "echo ran", Shell: true, CPUs: 0.01, Mem: 16, Retries: 20,
		Schedule: fmt.Sprintf("R%d/%s/PT1S", beats, time.Now().UTC().Format("2006-01-02T15:04:05.000Z")),
	})
	if err != nil {
		o.t.Fatal(err)
	}
}

// pulseOpen says what of the job has not ended.
func (o *ordeal) pulseOpen(ctx context.Context, api *client.Client) []string {
	if o.pulse == "" {
		return nil
	}
	job, err := api.Job(ctx, o.pulse)
	if err != nil || job.State != "idle" || job.Job.SuccessCount < beats {
		return []string{fmt.Sprintf("job %s: %+v, %v", o.pulse, job, err)}
	}
	return nil
}

// checkPulse: as many due times as there should be have begun, one run of each has ended well, and no task ran twice.
func (o *ordeal) checkPulse() {
	api, err := o.client()
	if err != nil {
		o.t.Fatal(err)
	}
	job, err := api.Job(o.t.Context(), o.pulse)
	if err != nil {
		o.t.Fatal(err)
	}
	good := map[time.Time]int{}
	for _, r := range job.History {
		good[r.Due] += 0
		if r.State == "TASK_FINISHED" {
			good[r.Due]++
		}
	}
	for due, n := range good {
		if n != 1 || len(good) != beats || job.Job.SuccessCount != beats {
			o.t.Errorf("%s ran well %d times for %s, of %d due times: %+v", o.pulse, n, due, len(good), job)
		}
	}
	for task, text := range (&jobs{cluster: o.c, t: o.t}).written(o.pulse) {
		if text != "ran\n" && text != "" {
			o.t.Errorf("task %s has written %q", task, text)
		}
	}
	if err := api.RemoveJob(o.t.Context(), o.pulse); err != nil {
		o.t.Error(err)
	}
	o.pulse = ""
}
