package jobs

import (
	"errors"
	"fmt"
)

// ErrRefused is wrapped by the refusals of requests; their text is for the one who asked.
var ErrRefused = errors.New("refused")

// RecordError is New's for a record that no machine has written, or a later one.
type RecordError struct {
	Key string
	Err error
}

func (e *RecordError) Error() string { return fmt.Sprintf("read record %s: %v", e.Key, e.Err) }
func (e *RecordError) Unwrap() error { return e.Err }

// refusal is a sentence that is ErrRefused.
type refusal string

func (e refusal) Error() string { return string(e) }
func (e refusal) Unwrap() error { return ErrRefused }

func refusef(format string, args ...any) error { return refusal(fmt.Sprintf(format, args...)) }

// NotFound is the refusal for an unknown job.
func NotFound(name string) error { return refusef("there is no job %q", name) }
