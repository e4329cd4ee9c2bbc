package rest

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/chronos/jobs"
)

func (s *server) csv(w http.ResponseWriter, r *http.Request) error {
	list, err := s.all(r)
	if err != nil {
		return err
	}
	var b strings.Builder
	out := csv.NewWriter(&b)
	for _, info := range list {
		_ = out.Write([]string{"node", info.Name, info.Status, info.State}) // a Builder takes all
	}
	for _, info := range list {
		for _, parent := range info.Parents {
			_ = out.Write([]string{"link", parent, info.Name})
		}
	}
	out.Flush()
	return writeText(w, b.String())
}

// dot names jobs in quotes, which no name holds.
func (s *server) dot(w http.ResponseWriter, r *http.Request) error {
	list, err := s.all(r)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("digraph G {\n")
	for _, info := range list {
		fmt.Fprintf(&b, "  \"%s\";\n", info.Name)
	}
	for _, info := range list {
		for _, parent := range info.Parents {
			fmt.Fprintf(&b, "  \"%s\" -> \"%s\";\n", parent, info.Name)
		}
	}
	b.WriteString("}\n")
	return writeText(w, b.String())
}

// durations are how long the finished runs of the history took, in seconds, ascending.
func durations(info jobs.Info) []float64 {
	var list []float64
	for _, run := range info.History {
		if run.State == "TASK_FINISHED" && !run.Started.IsZero() {
			list = append(list, run.Ended.Sub(run.Started).Seconds())
		}
	}
	slices.Sort(list)
	return list
}

// figures are what can be asked of durations.
var figures = map[string]func(sorted []float64) float64{
	"99thPercentile": percentile(0.99),
	"98thPercentile": percentile(0.98),
	"95thPercentile": percentile(0.95),
	"75thPercentile": percentile(0.75),
	"median":         percentile(0.5),
	"mean": func(sorted []float64) float64 {
		sum := 0.0
		for _, v := range sorted {
			sum += v
		}
		return sum / float64(max(1, len(sorted)))
	},
}

// percentile is the smallest value that so large a part does not exceed; 0 of nothing.
func percentile(part float64) func([]float64) float64 {
	return func(sorted []float64) float64 {
		if len(sorted) == 0 {
			return 0
		}
		return sorted[max(0, int(math.Ceil(part*float64(len(sorted))))-1)]
	}
}

func (s *server) stats(figure string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		of, ok := figures[figure]
		if !ok {
			return &statusError{http.StatusBadRequest, fmt.Sprintf("there is no figure %q: ask for 99thPercentile, 98thPercentile, 95thPercentile, 75thPercentile, median or mean", figure)}
		}
		type entry struct {
			Name string  `json:"jobNameLabel"`
			Time float64 `json:"time"`
		}
		out := []entry{}
		err := s.service.View(r.Context(), func(m *jobs.Machine, _ time.Time) {
			for _, name := range m.Names() {
				info, _ := m.Job(name)
				out = append(out, entry{name, of(durations(info))})
			}
		})
		if err != nil {
			return err
		}
		slices.SortStableFunc(out, func(a, b entry) int { return cmp.Compare(b.Time, a.Time) })
		return writeJSON(w, http.StatusOK, out)
	}
}

type taskStat struct {
	TaskID    string `json:"taskId"`
	Job       string `json:"jobName"`
	Agent     string `json:"slaveId"`
	Start     string `json:"startTime"`
	End       string `json:"endTime"`
	Duration  string `json:"duration"` // seconds
	Status    string `json:"status"`
	Processed int    `json:"numElementsProcessed"`
}

// maxStats is how many runs Chronos tells of.
const maxStats = 5

func (s *server) jobStat(name string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		info, err := s.find(r, name)
		if err != nil {
			return err
		}
		sorted := durations(info)
		histogram := map[string]float64{"count": float64(len(sorted))}
		for figure, of := range figures {
			histogram[figure] = of(sorted)
		}
		history := []taskStat{}
		for _, run := range info.History[:min(maxStats, len(info.History))] {
			stat := taskStat{TaskID: run.Task, Job: run.Job, Agent: run.Agent, End: run.Ended.Format(time.RFC3339Nano), Status: run.State}
			if !run.Started.IsZero() {
				stat.Start = run.Started.Format(time.RFC3339Nano)
				stat.Duration = fmt.Sprintf("%.3f", run.Ended.Sub(run.Started).Seconds())
			}
			history = append(history, stat)
		}
		return writeJSON(w, http.StatusOK, map[string]any{"histogram": histogram, "taskStatHistory": history})
	}
}

func (s *server) leader(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, map[string]string{"leader": s.address})
}

func (s *server) ping(w http.ResponseWriter, _ *http.Request) error { return writeText(w, "pong") }

func (s *server) metrics(w http.ResponseWriter, r *http.Request) error {
	var status jobs.Status
	if err := s.service.View(r.Context(), func(m *jobs.Machine, _ time.Time) { status = m.Status() }); err != nil {
		return err
	}
	gauge := func(n int) map[string]int { return map[string]int{"value": n} }
	counter := func(n uint64) map[string]uint64 { return map[string]uint64{"count": n} }
	none := map[string]any{}
	return writeJSON(w, http.StatusOK, map[string]any{
		"version": "4.0.0",
		"gauges": map[string]any{
			"chronos.jobs.gauge":        gauge(status.Jobs),
			"chronos.runs.queued.gauge": gauge(status.Queued),
			"chronos.runs.active.gauge": gauge(status.Active),
		},
		"counters": map[string]any{
			"chronos.offers.incoming.counter": counter(status.Offers),
			"chronos.runs.launched.counter":   counter(status.Launched),
			"chronos.runs.succeeded.counter":  counter(status.Succeeded),
			"chronos.runs.failed.counter":     counter(status.Failed),
			"chronos.runs.lost.counter":       counter(status.Lost),
		},
		"histograms": none, "meters": none, "timers": none,
	})
}

// ownShape is a job with all that is known of it.
type ownShape struct {
	Job         any        `json:"job"`
	Status      string     `json:"status"`
	State       string     `json:"state"`
	Next        time.Time  `json:"next,omitzero"`
	Skipped     uint64     `json:"skipped"`
	LastSkipped time.Time  `json:"lastSkipped,omitzero"`
	Why         string     `json:"why,omitempty"`
	Children    []string   `json:"children"`
	Runs        []jobs.Run `json:"runs"`
	History     []jobs.Run `json:"history,omitempty"`
}

func shapeOwn(info jobs.Info) ownShape {
	return ownShape{
		Job: info.Shape, Status: info.Status, State: info.State, Next: info.Next,
		Skipped: info.Skipped, LastSkipped: info.LastSkipped, Why: info.Why,
		Children: append([]string{}, info.Children...), Runs: append([]jobs.Run{}, info.Runs...), History: info.History,
	}
}

// ownJobs are all jobs, without their history.
func (s *server) ownJobs(w http.ResponseWriter, r *http.Request) error {
	list, err := s.all(r)
	if err != nil {
		return err
	}
	out := make([]ownShape, len(list))
	for i, info := range list {
		out[i] = shapeOwn(info)
	}
	return writeJSON(w, http.StatusOK, map[string]any{"jobs": out})
}

func (s *server) ownJob(name string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		info, err := s.find(r, name)
		if err != nil {
			return err
		}
		return writeJSON(w, http.StatusOK, shapeOwn(info))
	}
}
