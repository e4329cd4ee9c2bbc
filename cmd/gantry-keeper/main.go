//go:build cgo

// Gantry-keeper parents the containers of one agent; the agent starts it, and it ends
// when the agent asks for that. Package kernel/keeper says more.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/isolators/runc"
	"github.com/gantry-project/gantry/kernel/keeper"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// Libcontainer wants its part done on the main thread, which only init has for sure.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		runc.Init()
	}
}

func main() {
	dir := flag.String("dir", "", "the keeper's `directory`: socket, records, log")
	group := flag.String("cgroup", "", "the keeper's own control `group`, like /gantry-1f2e3d4c/keeper; empty: stay")
	launched := flag.Bool("launched", false, "an agent started this and waits for it (not for use by hand)")
	flag.Parse()
	ready := func(error) {}
	if *launched {
		keeper.Detach()
		ready = keeper.Ready
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	err := serve(*dir, *group, log, ready)
	if err != nil {
		log.Error(err.Error())
		os.Exit(1)
	}
}

// serve calls ready with nil once agents can connect, or with the error before that.
func serve(dir, group string, log *slog.Logger, ready func(error)) error {
	served := false
	err := run(dir, group, log, func() {
		served = true
		log.Info("serving", "dir", dir, "pid", os.Getpid())
		ready(nil)
	})
	if err != nil && !served {
		ready(err)
	}
	return err
}

func run(dir, group string, log *slog.Logger, ready func()) error {
	if !filepath.IsAbs(dir) {
		return errors.New("say which directory to serve, absolute: --dir DIR")
	}
	stayAlive(log)
	syscall.Umask(0o022)
	if group != "" {
		features, err := cgroup.Probe()
		if err != nil {
			return err
		}
		if err := features.Join(group); err != nil {
			return err
		}
	}
	rt, err := runc.New(filepath.Join(dir, "containers"), log)
	if err != nil {
		return fmt.Errorf("containers cannot be run on this host: %w", err)
	}
	return keeper.Serve(context.Background(), keeper.Config{Dir: dir, Runtime: runtime{rt}, Log: log, Ready: ready})
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

// runtime is isolators/runc as kernel/keeper wants it.
type runtime struct{ *runc.Runtime }

func (r runtime) Start(ctx context.Context, spec *containerpb.Spec) (keeper.Container, error) {
	c, err := r.Runtime.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (r runtime) Adopt(ctx context.Context, spec *containerpb.Spec) (keeper.Container, error) {
	c, err := r.Runtime.Adopt(ctx, spec)
	if errors.Is(err, runc.ErrGone) {
		return nil, fmt.Errorf("%w: %w", keeper.ErrGone, err)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}
