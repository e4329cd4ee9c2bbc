//go:build cgo

// Gantry-keeper parents the containers of one agent; the agent starts it, and it ends
// when the agent asks for that. It is two processes: a reaper, and the keeper below it.
// Package kernel/keeper says more.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"syscall"

	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/isolators/orphan"
	"github.com/gantry-project/gantry/isolators/runc"
	"github.com/gantry-project/gantry/kernel/keeper"
)

// Libcontainer wants its part done on the main thread, which only init has for sure.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		runc.Init()
	}
}

func main() {
	dir := flag.String("dir", "", "the keeper's `directory`: socket, records, log")
	group := flag.String("cgroup", "", "the keeper's own control `group`, like /gantry-1f2e3d4c/keeper, beside those of containers; empty: stay")
	part := flag.String("part", "", "which `part` of a keeper that an agent started: reaper, keeper or heir (not for use by hand)")
	flag.Parse()
	p := program{dir: *dir, group: *group, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if err := p.run(*part); err != nil {
		p.log.Error(err.Error())
		os.Exit(1)
	}
}

type program struct {
	dir, group string
	log        *slog.Logger
}

func (p program) run(part string) error {
	switch part {
	case "":
		return p.serve(nil, func(error) {})
	case "reaper":
		keeper.Detach()
		return p.reap(nil, keeper.Ready)
	case "heir":
		return p.reap(keeper.Heir(), func(error) {})
	case "keeper":
		seat := keeper.Inherit()
		err := p.serve(seat, keeper.Ready)
		if errors.Is(err, keeper.ErrOrphaned) {
			p.log.Warn("the reaper has died; taking its place")
			return seat.Bequeath(p.args("heir"))
		}
		return err
	}
	return fmt.Errorf("there is no part %q: reaper, keeper and heir are", part)
}

func (p program) args(part string) []string {
	return []string{os.Args[0], "--part", part, "--dir", p.dir, "--cgroup", p.group}
}

// prepare is the same for all parts.
func (p program) prepare() error {
	if !filepath.IsAbs(p.dir) {
		return errors.New("say which directory to serve, absolute: --dir DIR")
	}
	stayAlive(p.log)
	syscall.Umask(0o022)
	if p.group == "" {
		return nil
	}
	features, err := cgroup.Probe()
	if err != nil {
		return err
	}
	return features.Join(p.group)
}

// reap is the process above the keeper, which starts that in its own cgroup.
func (p program) reap(seat *keeper.Seat, ready func(error)) error {
	err := p.prepare()
	if err == nil {
		err = orphan.Adopt()
	}
	if err != nil {
		ready(err)
		return err
	}
	return keeper.Reap(keeper.ReaperConfig{
		Dir: p.dir, Args: p.args("keeper"), Seat: seat, Children: children{}, Log: p.log, Ready: ready,
	})
}

// serve calls ready with nil once agents can connect, or with the error before that.
func (p program) serve(seat *keeper.Seat, ready func(error)) error {
	served := false
	err := p.keep(seat, func() {
		served = true
		p.log.Info("serving", "dir", p.dir, "pid", os.Getpid())
		ready(nil)
	})
	if err != nil && !served {
		ready(err)
	}
	return err
}

func (p program) keep(seat *keeper.Seat, ready func()) error {
	if err := p.prepare(); err != nil {
		return err
	}
	parent := ""
	if p.group != "" {
		parent = path.Dir(p.group)
	}
	containers, err := newRuntime(filepath.Join(p.dir, "containers"), parent, p.log)
	if err != nil {
		return fmt.Errorf("containers cannot be run on this host: %w", err)
	}
	return keeper.Serve(context.Background(), keeper.Config{
		Dir: p.dir, Seat: seat, Runtime: containers, Log: p.log, Ready: ready,
	})
}

// stayAlive makes the usual signals do nothing: only the agent ends a keeper, because
// containers would be left without a parent. Ignoring them would not do: containers
// would inherit that.
func stayAlive(log *slog.Logger) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for sig := range signals {
			log.Warn("signal ignored: a keeper ends when its agent asks for it", "signal", sig)
		}
	}()
}

// children is isolators/orphan as kernel/keeper wants it.
type children struct{}

func (children) Ended(pid int) (keeper.End, bool, error) {
	end, err := orphan.Ended(pid)
	if errors.Is(err, orphan.ErrNone) {
		return keeper.End{}, false, nil
	}
	return keeper.End{
		Pid: end.Pid, StartTicks: end.StartTicks, Status: end.Status, NeverRan: end.Name == runc.FirstName,
	}, err == nil, err
}

func (children) Reap(pid int) error { return orphan.Reap(pid) }
