package definition

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Bounds of a definition.
const (
	maxName    = 150 // leaves room for the rest of a task id, of 255 characters
	maxText    = 64 << 10
	maxParents = 100
	maxList    = 1000
)

var nameForm = regexp.MustCompile(`^[\w.-]+$`)

// CheckName says what is wrong with a job's name. Errors: *InvalidError.
func CheckName(name string) error {
	switch {
	case name == "":
		return invalid("a job needs a name")
	case len(name) > maxName:
		return invalid("a job's name is at most %d characters long", maxName)
	case !nameForm.MatchString(name) || name == "." || name == "..":
		return invalid("the name %q of a job may hold letters, digits, '_', '.' and '-' only", name)
	}
	return nil
}

func (j *Job) validate() error {
	if err := CheckName(j.Name); err != nil {
		return err
	}
	if j.Executor != "" {
		return invalid("executor: custom executors are not supported yet; leave it out and say what to run in command")
	}
	if j.Command == "" {
		return invalid("job %s has no command", j.Name)
	}
	for _, text := range append([]string{j.Command, j.RunAsUser}, j.Arguments...) {
		if strings.Contains(text, "\x00") || len(text) > maxText {
			return invalid("command, runAsUser and arguments of job %s must not hold a NUL character, or more than %d bytes each", j.Name, maxText)
		}
	}
	if len(j.Fetch) > maxList || len(j.Env) > maxList || len(j.Arguments) > maxList || len(j.Constraints) > maxList {
		return invalid("the lists of job %s may hold %d elements each", j.Name, maxList)
	}
	for _, v := range j.Env {
		if v.Name == "" || strings.ContainsAny(v.Name, "=\x00") || strings.Contains(v.Value, "\x00") {
			return invalid("environmentVariables: the name %q must not be empty or hold '=', and nothing may hold a NUL character", v.Name)
		}
	}
	for _, f := range j.Fetch {
		if u, err := url.Parse(f.URI); f.URI == "" || err != nil || (u.Scheme == "" && !strings.HasPrefix(f.URI, "/")) {
			return invalid("fetch: %q is no URI", f.URI)
		}
	}
	return j.validateConstraints()
}

func (j *Job) validateConstraints() error {
	for _, c := range j.Constraints {
		if c[0] == "" || !slices.Contains([]string{"EQUALS", "LIKE", "UNLIKE"}, c[1]) {
			return invalid("constraints: [%s] must be an attribute, then EQUALS, LIKE or UNLIKE, then a value", strings.Join(c[:], ", "))
		}
		if _, err := regexp.Compile(c[2]); c[1] != "EQUALS" && err != nil {
			return invalid("constraints: %q is no regular expression", c[2])
		}
	}
	return nil
}

func (j *Job) validateKind(kind Kind) error {
	switch {
	case j.Schedule != "" && len(j.Parents) > 0:
		return invalid("job %s has a schedule and parents; it can have one of them", j.Name)
	case kind == Scheduled && len(j.Parents) > 0:
		return invalid("job %s has parents; POST it to /v1/scheduler/dependency", j.Name)
	case kind == Dependent && j.Schedule != "":
		return invalid("job %s has a schedule; POST it to /v1/scheduler/iso8601", j.Name)
	case kind == Dependent && len(j.Parents) == 0:
		return invalid("job %s names no parents", j.Name)
	case len(j.Parents) > maxParents:
		return invalid("job %s has more than %d parents", j.Name, maxParents)
	}
	for i, parent := range j.Parents {
		if parent == j.Name {
			return invalid("job %s can't be its own parent", j.Name)
		}
		if slices.Contains(j.Parents[:i], parent) {
			return invalid("job %s names its parent %q twice", j.Name, parent)
		}
	}
	if kind == Dependent {
		j.ScheduleTimeZone = ""
	}
	return nil
}
