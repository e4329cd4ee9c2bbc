package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// InvalidError is what a client said that can't be.
type InvalidError struct{ Message string }

func (e *InvalidError) Error() string { return e.Message }

func invalid(format string, args ...any) error {
	return &InvalidError{fmt.Sprintf(format, args...)}
}

// Defaults of what a job takes.
const (
	defaultCPUs    = 0.1
	defaultMem     = 128
	defaultDisk    = 256
	defaultRetries = 2
)

// Parse reads the definition of a job. Whether its schedule makes sense and its parents exist is
// not judged here; a scheduled job without a schedule has an empty one. Errors: *InvalidError.
func Parse(body []byte, kind Kind) (Job, Counts, error) {
	members, err := object(body)
	if err != nil {
		return Job{}, Counts{}, err
	}
	r := &reader{members: members}
	j := r.job()
	counts := r.counts()
	r.unsupported()
	if r.err != nil {
		return Job{}, Counts{}, r.err
	}
	j.Extra = r.extra()
	if err := j.validate(); err != nil {
		return Job{}, Counts{}, err
	}
	return j, counts, j.validateKind(kind)
}

// object reads one JSON object; members that are null are as if they were not there.
func object(body []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	var members map[string]json.RawMessage
	if err := d.Decode(&members); err != nil || members == nil {
		return nil, invalid("the body is not the JSON object of a job%s", because(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, invalid("something follows the JSON object of the job")
	}
	for key, value := range members { // any order: each member by itself
		if string(value) == "null" {
			delete(members, key)
		}
	}
	return members, nil
}

func because(err error) string {
	if err == nil {
		return ""
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ": it ends too early"
	}
	return ": " + err.Error()
}

// reader takes members out one by one; its first error stays.
type reader struct {
	members map[string]json.RawMessage
	known   []string
	err     error
}

// take is the member called name; nil when it is not there.
func (r *reader) take(name string) json.RawMessage {
	r.known = append(r.known, name)
	return r.members[name]
}

func (r *reader) fail(name, want string) {
	if r.err == nil {
		r.err = invalid("%s must be %s", name, want)
	}
}

func (r *reader) text(name string) string {
	var text string
	if value := r.take(name); value != nil && json.Unmarshal(value, &text) != nil {
		r.fail(name, "a string")
	}
	return text
}

// flag takes "true" for true, as Chronos does.
func (r *reader) flag(name string, absent bool) bool {
	value := r.take(name)
	switch strings.Trim(string(value), `"`) {
	case "":
		return absent
	case "true":
		return true
	case "false":
		return false
	}
	r.fail(name, "true or false")
	return absent
}

// number takes "0.5" for 0.5, as Chronos does.
func (r *reader) number(name string, absent float64) float64 {
	value := r.take(name)
	if value == nil {
		return absent
	}
	n, err := strconv.ParseFloat(strings.Trim(string(value), `" `), 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		r.fail(name, "a number")
		return absent
	}
	return n
}

// whole is a number without a fraction, from 0 to most.
func (r *reader) whole(name string, absent, most int) int {
	n := r.number(name, float64(absent))
	if n != math.Trunc(n) || n < 0 || n > float64(most) {
		r.fail(name, fmt.Sprintf("a whole number from 0 to %d", most))
		return absent
	}
	return int(n)
}

// list reads an array into out, which is left alone when there is none.
func (r *reader) list(name, want string, out any) {
	if value := r.take(name); value != nil && json.Unmarshal(value, out) != nil {
		r.fail(name, want)
	}
}

// Bounds of numbers.
const (
	maxRetries  = 100
	maxSeconds  = 366 * 24 * 3600
	maxQuantity = 1e9
)

func (r *reader) job() Job {
	j := Job{
		Name:              r.text("name"),
		Command:           r.text("command"),
		Shell:             r.flag("shell", true),
		Executor:          r.text("executor"),
		ExecutorFlags:     r.text("executorFlags"),
		TaskInfoData:      r.text("taskInfoData"),
		Retries:           r.whole("retries", defaultRetries, maxRetries),
		Owner:             r.text("owner"),
		OwnerName:         r.text("ownerName"),
		Description:       r.text("description"),
		CPUs:              r.quantity("cpus", defaultCPUs),
		Mem:               r.quantity("mem", defaultMem),
		Disk:              r.quantity("disk", defaultDisk),
		Disabled:          r.flag("disabled", false),
		SoftError:         r.flag("softError", false),
		DataProcessing:    r.flag("dataProcessingJobType", false),
		HighPriority:      r.flag("highPriority", false),
		RunAsUser:         r.text("runAsUser"),
		Concurrent:        r.flag("concurrent", false),
		MaxCompletionTime: r.whole("maxCompletionTime", 0, maxSeconds),
		Fetch:             r.fetch(),
		Env:               []Variable{},
		Arguments:         []string{},
		Schedule:          r.text("schedule"),
		ScheduleTimeZone:  r.text("scheduleTimeZone"),
	}
	r.list("environmentVariables", `a list of {"name": ..., "value": ...}`, &j.Env)
	r.list("arguments", "a list of strings", &j.Arguments)
	r.list("parents", "a list of the names of jobs", &j.Parents)
	j.Constraints = r.constraints()
	return j
}

// quantity is how much of a resource; 0 means the default.
func (r *reader) quantity(name string, absent float64) float64 {
	n := r.number(name, absent)
	if n < 0 || n > maxQuantity {
		r.fail(name, fmt.Sprintf("from 0 to %v", maxQuantity))
	}
	if n == 0 {
		return absent
	}
	return n
}

// fetch is what the sandbox gets: "fetch", and the old "uris" that it does not name.
func (r *reader) fetch() []Artifact {
	var raw []json.RawMessage
	r.list("fetch", `a list of {"uri": ...}`, &raw)
	list := make([]Artifact, len(raw))
	for i, value := range raw {
		list[i] = Artifact{Extract: true}
		if json.Unmarshal(value, &list[i]) != nil {
			r.fail("fetch", `a list of {"uri": ...}`)
		}
	}
	var uris []string
	r.list("uris", "a list of strings", &uris)
	for _, uri := range uris {
		if !slices.ContainsFunc(list, func(a Artifact) bool { return a.URI == uri }) {
			list = append(list, Artifact{URI: uri, Extract: true})
		}
	}
	return list
}

func (r *reader) constraints() []Constraint {
	const want = `a list of [ATTRIBUTE, "EQUALS" or "LIKE" or "UNLIKE", VALUE]`
	var raw [][]string
	r.list("constraints", want, &raw)
	list := make([]Constraint, len(raw))
	for i, c := range raw {
		if len(c) != len(list[i]) {
			r.fail("constraints", want)
			continue
		}
		copy(list[i][:], c)
		list[i][1] = strings.ToUpper(c[1])
	}
	return list
}

func (r *reader) counts() Counts {
	count := func(name string) *uint64 {
		if r.members[name] == nil {
			r.known = append(r.known, name)
			return nil
		}
		return new(uint64(r.whole(name, 0, math.MaxInt32)))
	}
	date := func(name string) *time.Time {
		text := r.text(name)
		if r.members[name] == nil {
			return nil
		}
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil && text != "" {
			r.fail(name, "a date and time such as 2026-03-01T03:00:00.000Z, or empty")
		}
		return new(t.UTC())
	}
	return Counts{
		SuccessCount: count("successCount"), ErrorCount: count("errorCount"),
		ErrorsSinceLastSuccess: count("errorsSinceLastSuccess"),
		LastSuccess:            date("lastSuccess"), LastError: date("lastError"),
	}
}

// unsupported refuses what would not be done. What says nothing passes.
func (r *reader) unsupported() {
	for _, name := range []string{"epsilon", "async"} { // Chronos 3 drops them too
		r.take(name)
	}
	if value := r.take("container"); value != nil && string(value) != "{}" && r.err == nil {
		r.err = invalid("container: images are not supported yet; leave it out to run the command in a root filesystem made of the agent's own programs")
	}
}

// extra are the members that nobody took.
func (r *reader) extra() map[string]json.RawMessage {
	var rest map[string]json.RawMessage
	for key, value := range r.members { // any order: into a map again
		if !slices.Contains(r.known, key) {
			if rest == nil {
				rest = map[string]json.RawMessage{}
			}
			rest[key] = value
		}
	}
	return rest
}
