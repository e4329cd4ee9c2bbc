// Package rules says what may be asked of the cluster: pure functions from a message to
// an error, nil if the message is acceptable. The texts are those that clients of the
// Mesos HTTP API know, so they begin with a capital letter; whoever sends them may put
// the thing attempted before them.
//
//	if err := rules.Call(call); err != nil {
//		return fmt.Errorf("Failed to validate scheduler::Call: %w", err)
//	}
//
// What is acceptable by the protocol and still beyond this kernel is refused by
// Supported, in a sentence of its own.
package rules

import "fmt"

// refuse words an error as clients know it.
func refuse(format string, args ...any) error { return fmt.Errorf(format, args...) }
