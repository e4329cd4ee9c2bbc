package apps

import (
	"errors"
	"fmt"
)

// Refusals of a request. definition.InvalidError, SyntaxError and LockedError carry more and are
// found with errors.As.
var (
	// ErrNotFound is wrapped by what names an app, task, version or deployment that is not there.
	ErrNotFound = errors.New("does not exist")
	// ErrExists is wrapped by the creation of an app whose id is taken.
	ErrExists = errors.New("already exists")
	// ErrTooMany is wrapped by what would exceed a limit of the whole machine.
	ErrTooMany = errors.New("too many")
)

// RecordError is New's for a record that no machine has written, or a later one.
type RecordError struct {
	Key string
	Err error
}

func (e *RecordError) Error() string { return fmt.Sprintf("read record %s: %v", e.Key, e.Err) }
func (e *RecordError) Unwrap() error { return e.Err }

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
