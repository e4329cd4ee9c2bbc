// Package step holds what the pure machines (core, node) share: time as they are told
// it, and the writes that they ask for.
package step

import "time"

// Time is nanoseconds since 1970 as the shell tells it; machines have no clock of their own.
type Time int64

// At converts a time.Time.
func At(t time.Time) Time { return Time(t.UnixNano()) }

// Add returns t after d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns the duration from u to t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Seconds is the wire's form of a timestamp.
func (t Time) Seconds() float64 { return float64(t) / 1e9 }

// Time converts back.
func (t Time) Time() time.Time { return time.Unix(0, int64(t)) }

// Write puts Value at Key in the durable store of the machine's process; a nil Value
// deletes the key.
type Write struct {
	Key   string
	Value []byte
}
