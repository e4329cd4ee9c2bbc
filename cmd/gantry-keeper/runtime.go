//go:build cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"

	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/isolators/runc"
	"github.com/gantry-project/gantry/kernel/keeper"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// runtime is isolators/runc as kernel/keeper wants it. It removes nothing that lives unless
// it is told which container that is.
type runtime struct {
	*runc.Runtime
	// dir has what runc knows, a folder for each container.
	dir string
	// groups has a control group for each container; empty: nobody knows where they are.
	groups  string
	cgroups cgroup.Features
	log     *slog.Logger
}

func newRuntime(dir, parent string, log *slog.Logger) (runtime, error) {
	made, err := runc.New(dir, parent, log)
	if err != nil {
		return runtime{}, err
	}
	features, err := cgroup.Probe()
	r := runtime{Runtime: made, dir: dir, cgroups: features, log: log}
	if parent != "" {
		r.groups = path.Dir(cgroup.Container(parent, "any"))
	}
	return r, err
}

func (r runtime) Start(ctx context.Context, spec *containerpb.Spec) (keeper.Container, error) {
	c, err := r.Runtime.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (r runtime) Adopt(ctx context.Context, spec *containerpb.Spec) (keeper.Container, error) {
	c, err := r.Runtime.Adopt(ctx, spec)
	switch {
	case errors.Is(err, runc.ErrGone):
		return nil, fmt.Errorf("%w: %w", keeper.ErrGone, err)
	case errors.Is(err, runc.ErrNeverRan):
		return nil, fmt.Errorf("%w: %w", keeper.ErrNeverRan, err)
	case err != nil:
		return nil, err
	}
	return c, nil
}

// Lost are those of the containers with processes that runc knows.
func (r runtime) Lost(recorded func(id string) bool) ([]string, error) {
	return r.living(func(id string) bool { return !recorded(id) && r.knows(id) })
}

// Sweep lets live what runc does not know: nobody can tell whose it is.
func (r runtime) Sweep(ctx context.Context, keep map[string]bool) error {
	strangers, err := r.living(func(id string) bool {
		_, held := keep[id]
		return !held && !r.knows(id)
	})
	if err != nil {
		return err
	}
	keep = maps.Clone(keep)
	for _, id := range strangers {
		r.log.Error("processes of a container that nobody knows are left alone; end them, and the next keeper removes the rest",
			"container", id, "cgroup", r.groups+"/"+id)
		keep[id] = true
	}
	return r.Runtime.Sweep(ctx, keep)
}

// living lists those of the wanted containers whose control groups have processes.
func (r runtime) living(wanted func(id string) bool) ([]string, error) {
	if r.groups == "" {
		return nil, nil
	}
	ids, err := r.cgroups.Children(r.groups)
	if err != nil {
		return nil, err
	}
	var living []string
	for _, id := range ids {
		group := r.groups + "/" + id
		if cgroup.Check(group) != nil || !wanted(id) {
			continue // by its name no container's, or not asked for
		}
		members, err := r.cgroups.Members(group)
		if err != nil {
			return nil, err
		}
		if len(members) > 0 {
			living = append(living, id)
		}
	}
	return living, nil
}

func (r runtime) knows(id string) bool {
	_, err := os.Lstat(filepath.Join(r.dir, id))
	return err == nil
}
