// Package keeper is the small process that parents an agent's containers, the smaller one
// above it, and the agent's way to talk to them.
//
// Only a process's parent can wait for it, and an agent must be free to die and be
// replaced; so each agent work directory has one keeper, which starts containers, waits
// for them, writes a record of how each ended, and tells whatever agent is connected.
// A record stays until the agent has forgotten it, so an end is told at least once.
//
// A keeper may die, too. Above it is a reaper, which starts another and becomes the parent
// of the containers meanwhile: it writes down how they end, and the next keeper reads that.
// When the reaper dies, the keeper becomes the reaper of the next keeper. Only of what ends
// while there is neither may the status be unknown; before Linux 6.15 also of containers
// whose keeper and reaper have both died, one after the other.
//
// The agent's side:
//
//	client, welcome, err := keeper.Dial(ctx, dir)
//	if errors.Is(err, keeper.ErrNotRunning) {
//		err = keeper.Launch(ctx, keeper.LaunchConfig{Binary: "bin/gantry-keeper", Dir: dir, Cgroup: parent + "/keeper"})
//		...                                   // and dial again
//	}
//	err = client.Start(ctx, spec)             // accepted or refused
//	for event := range client.Events() {      // Started, StartFailed, Exited
//		...
//	}
//
// The keeper's side is Serve over a Runtime, the reaper's is Reap; cmd/gantry-keeper is the
// program of both.
//
// Its directory, mode 0700, holds
//
//	keeper.lock          held by the keeper that serves the directory, and its reaper
//	keeper.sock          where it listens; only root and its own user are let in
//	keeper.log           standard output and error of both
//	started/ID           the Accepted of each container that may be alive
//	exits/ID             the Exit of each that ended and is not forgotten
//	reaped               the ends that the reaper saw, for the keeper to make an Exit of
//	damaged/             records that could not be read, set aside
//	containers/          the runtime's own state
//
// where a record is the CRC-32C of what follows, a byte for the version, and a protobuf
// message. One that is damaged makes a status unknown; one of another version is not
// touched, and nobody serves the directory then. Whoever removes one takes nothing from a
// container but what was known of it: what lives is adopted, and on record again.
package keeper

import "errors"

var (
	// ErrNotRunning says that no keeper serves the directory.
	ErrNotRunning = errors.New("no keeper is running")
	// ErrRunning says that a keeper serves the directory already.
	ErrRunning = errors.New("a keeper is running already")
	// ErrRefused wraps the keeper's reason for not doing what was asked.
	ErrRefused = errors.New("refused by the keeper")
	// ErrClosed says that the connection to the keeper has ended.
	ErrClosed = errors.New("connection to the keeper closed")
	// ErrGone is a Runtime's answer to Adopt for a container that does not live and of
	// whose end it knows nothing.
	ErrGone = errors.New("container is gone")
	// ErrNeverRan is a Runtime's answer to Adopt for one whose program had not begun.
	ErrNeverRan = errors.New("container never ran")
)

// Version is the protocol's, exchanged in Hello and Welcome; both sides need the same.
const Version = "1"
