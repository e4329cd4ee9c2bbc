package definition

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Job is one definition, complete and valid.
type Job struct {
	// Name is the job's id: letters, digits, _ . and -.
	Name    string `json:"name"`
	Command string `json:"command"`
	// Shell says that Command is a line for /bin/sh; otherwise it is a program, and
	// Arguments are what it is given, its name first.
	Shell         bool   `json:"shell"`
	Executor      string `json:"executor"` // always empty: not supported yet
	ExecutorFlags string `json:"executorFlags"`
	TaskInfoData  string `json:"taskInfoData"`
	// Retries is how often a run that failed is tried again.
	Retries     int     `json:"retries"`
	Owner       string  `json:"owner"`
	OwnerName   string  `json:"ownerName"`
	Description string  `json:"description"`
	CPUs        float64 `json:"cpus"`
	Mem         float64 `json:"mem"`  // MiB
	Disk        float64 `json:"disk"` // MiB
	// Disabled jobs are not started by clock or parents, only by hand.
	Disabled bool `json:"disabled"`
	// SoftError lets children run after a failure too.
	SoftError      bool `json:"softError"`
	DataProcessing bool `json:"dataProcessingJobType"` // carried only
	// HighPriority runs are launched before others.
	HighPriority bool   `json:"highPriority"`
	RunAsUser    string `json:"runAsUser"`
	// Concurrent jobs may have several runs at once.
	Concurrent bool `json:"concurrent"`
	// MaxCompletionTime ends a run after so many seconds; 0 never does.
	MaxCompletionTime int          `json:"maxCompletionTime"`
	Fetch             []Artifact   `json:"fetch"`
	Env               []Variable   `json:"environmentVariables"`
	Arguments         []string     `json:"arguments"`
	Constraints       []Constraint `json:"constraints"`
	// Schedule is when it runs, as package schedule reads it; empty for a job with Parents.
	Schedule         string `json:"schedule,omitempty"`
	ScheduleTimeZone string `json:"scheduleTimeZone,omitempty"`
	// Parents are the jobs after which it runs; none for a job with a Schedule.
	Parents []string `json:"parents,omitempty"`
	// Extra are members that nobody here knows.
	Extra map[string]json.RawMessage `json:"extra,omitempty"`
}

// Artifact is a file for the sandbox.
type Artifact struct {
	URI        string `json:"uri"`
	OutputFile string `json:"output_file,omitempty"`
	Executable bool   `json:"executable"`
	Cache      bool   `json:"cache"`
	Extract    bool   `json:"extract"`
}

// Variable is one of the environment.
type Variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Constraint is an attribute, EQUALS, LIKE or UNLIKE, and a value.
type Constraint [3]string

// Counts are what clients may set besides the definition; nil leaves them as they are.
type Counts struct {
	SuccessCount, ErrorCount, ErrorsSinceLastSuccess *uint64
	LastSuccess, LastError                           *time.Time
}

// Kind is which of the two forms of a job a client means to define.
type Kind int

// The kinds.
const (
	Scheduled Kind = iota
	Dependent
)

// Shape is a job as clients see it: the definition with what became of it.
type Shape struct {
	Job
	SuccessCount           uint64
	ErrorCount             uint64
	ErrorsSinceLastSuccess uint64
	LastSuccess, LastError time.Time // zero for never
}

// MarshalJSON writes the fields that clients know, in one object with the extra ones.
func (s Shape) MarshalJSON() ([]byte, error) {
	type plain Job
	job := s.Job
	job.Extra = nil
	uris := make([]string, len(s.Fetch))
	for i, f := range s.Fetch {
		uris[i] = f.URI
	}
	data, err := json.Marshal(struct {
		plain
		URIs                   []string `json:"uris"`
		SuccessCount           uint64   `json:"successCount"`
		ErrorCount             uint64   `json:"errorCount"`
		LastSuccess            string   `json:"lastSuccess"`
		LastError              string   `json:"lastError"`
		ErrorsSinceLastSuccess uint64   `json:"errorsSinceLastSuccess"`
	}{plain(job), uris, s.SuccessCount, s.ErrorCount, stamp(s.LastSuccess), stamp(s.LastError), s.ErrorsSinceLastSuccess})
	if err != nil {
		return nil, fmt.Errorf("encode job %s: %w", s.Name, err)
	}
	var b bytes.Buffer
	b.Write(data[:len(data)-1])
	for _, key := range slices.Sorted(maps.Keys(s.Extra)) {
		name, err := json.Marshal(key)
		if err != nil {
			return nil, fmt.Errorf("encode job %s: %w", s.Name, err)
		}
		fmt.Fprintf(&b, ",%s:%s", name, s.Extra[key])
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// stamp is a time as clients read it; empty for the zero time.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeLayout)
}

const timeLayout = "2006-01-02T15:04:05.000Z07:00"
