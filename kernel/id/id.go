// Package id holds the identifiers of the kernel's nouns: distinct string types, so that
// one can't be passed for another. Values are those of the wire; rules.ID says which
// strings are acceptable from outside.
package id

// Framework names a framework: MASTER-0000 and up.
type Framework string

// Agent names an agent: MASTER-S0 and up.
type Agent string

// Offer names an offer: MASTER-O0 and up.
type Offer string

// Task is chosen by its framework and unique only within it; see TaskKey.
type Task string

// Stream names one subscription: the Mesos-Stream-Id of HTTP, or a plugin's session.
type Stream string

// TaskKey is unique in the cluster.
type TaskKey struct {
	Framework Framework
	Task      Task
}

func (k TaskKey) String() string { return string(k.Framework) + "/" + string(k.Task) }
