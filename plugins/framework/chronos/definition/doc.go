// Package definition is what clients say about a job: its fields, their defaults, the
// rules, and the reading of JSON as old and new clients of Chronos write it. It is pure.
//
//	job, counts, err := definition.Parse(body, definition.Scheduled)
//
// What Chronos knows and this version does not honour is refused with a sentence; what
// neither knows is kept, and served again.
package definition
