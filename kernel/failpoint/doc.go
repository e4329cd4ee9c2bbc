// Package failpoint marks the moments at which a test wants to kill a process: before and
// after each write that must be durable, say.
//
//	failpoint.Hit("agent.persisted")
//
// Programs as they ship know none of it: Hit does nothing and is compiled away. With the
// build tag failpoints, $GANTRY_FAILPOINTS names a folder, and a file in it arms the point
// of its name: the next process that comes by removes the file and kills itself with
// SIGKILL. Names are written as literals, so that a test finds them all in the source.
package failpoint
