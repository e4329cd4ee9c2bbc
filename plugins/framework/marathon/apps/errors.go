package apps

import (
	"errors"
	"fmt"
	"strings"
)

// Refusals of a request. InvalidError, SyntaxError and LockedError carry more and are
// found with errors.As.
var (
	// ErrNotFound is wrapped by what names an app, task, version or deployment that is not there.
	ErrNotFound = errors.New("does not exist")
	// ErrExists is wrapped by the creation of an app whose id is taken.
	ErrExists = errors.New("already exists")
	// ErrTooMany is wrapped by what would exceed a limit of the whole machine.
	ErrTooMany = errors.New("too many")
)

// SyntaxError is a body that is not JSON.
type SyntaxError struct{ Detail string }

func (e *SyntaxError) Error() string { return "Invalid JSON: " + e.Detail }

// Detail is what is wrong at one place of a definition.
type Detail struct {
	Path   string   `json:"path"`
	Errors []string `json:"errors"`
}

// InvalidError is a definition of the wrong shape (Shape) or with values that break a rule.
type InvalidError struct {
	Shape   bool
	Details []Detail
}

func (e *InvalidError) Error() string {
	var b strings.Builder
	for _, d := range e.Details {
		fmt.Fprintf(&b, "; %s: %s", d.Path, strings.Join(d.Errors, ", "))
	}
	return "Object is not valid" + b.String()
}

func (e *InvalidError) add(path, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for i := range e.Details {
		if e.Details[i].Path == path {
			e.Details[i].Errors = append(e.Details[i].Errors, text)
			return
		}
	}
	e.Details = append(e.Details, Detail{Path: path, Errors: []string{text}})
}

// orNil is e as an error when it holds anything.
func (e *InvalidError) orNil() error {
	if len(e.Details) == 0 {
		return nil
	}
	return e
}

// LockedError refuses a change of an app that deployments are still working on.
type LockedError struct{ Deployments []string }

func (e *LockedError) Error() string {
	return "App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'."
}

// notFound words the 404s of the API.
type notFound string

func (e notFound) Error() string { return string(e) }
func (e notFound) Unwrap() error { return ErrNotFound }

// AppNotFound is the error for an unknown app.
func AppNotFound(id string) error { return notFound(fmt.Sprintf("App '%s' does not exist", id)) }

// TaskNotFound is the error for an unknown task.
func TaskNotFound(id string) error { return notFound(fmt.Sprintf("Task '%s' does not exist", id)) }

// VersionNotFound is the error for an unknown version of an app.
func VersionNotFound(id, version string) error {
	return notFound(fmt.Sprintf("App '%s' does not exist in version %s", id, version))
}
