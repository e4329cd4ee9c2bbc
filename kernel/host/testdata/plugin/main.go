// Command plugin misbehaves as its own name says: the tests of the host start copies of
// it under many names.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/gantry-project/gantry/sdk/allocator"
	"github.com/gantry-project/gantry/sdk/framework"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	"github.com/gantry-project/gantry/sdk/service"
)

func main() {
	switch os.Args[0] {
	case "framework-hang":
		select {}
	case "framework-garbage":
		fmt.Println("\x1b[31mhello, world")
		select {}
	case "framework-long":
		fmt.Println(strings.Repeat("x", 1<<20))
		select {}
	case "framework-quits":
		fmt.Fprintln(os.Stderr, "no configuration, no work")
		os.Exit(3)
	case "allocator-module":
		module, err := os.ReadFile(os.Args[2])
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(os.Stderr, "told", os.Args[1], string(module), os.Args[3], os.Args[5:])
		allocator.Main(func([]byte) (allocator.Policy, error) { return echo{}, nil })
	case "allocator-echo":
		allocator.Main(func(config []byte) (allocator.Policy, error) {
			if string(config) != `{"who":"me"}` {
				return nil, errors.New("nobody configured me")
			}
			return echo{}, nil
		})
	case "service-page", "service-other":
		service.Main(page{})
	default:
		framework.Main(scheduler{})
	}
}

// echo grants each agent of a snapshot to nobody in particular.
type echo struct{}

func (echo) Apply(m *allocatorpb.ToAllocator) []*allocatorpb.Grant {
	var grants []*allocatorpb.Grant
	for i, a := range m.GetSnapshot().GetAgents() {
		grants = append(grants, &allocatorpb.Grant{Id: uint64(i + 1), AgentId: a.GetId()})
	}
	return grants
}

// page says who answers what, and where it believes to be.
type page struct{}

func (page) Run(ctx context.Context, k *service.Kernel) error {
	s := k.Start()
	return k.Serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "script-src 'self'")
		fmt.Fprintf(w, "%s %s %q home=%v master=%s", s.GetName(), r.RequestURI, s.GetHttpPath(), s.GetHome(), s.GetMasterAddress())
	}))
}

type scheduler struct{}

func (scheduler) Run(ctx context.Context, k *framework.Kernel) error {
	switch name := k.Start().GetName(); name {
	case "fails":
		return errors.New("I would rather not")
	case "returns":
		return nil
	case "flood":
		for range 100_000 {
			fmt.Fprintln(os.Stderr, "\x1b[2Jlevel=ERROR forged\tline")
		}
	case "stops":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "forks", "escapes":
		cmd := exec.Command("sleep", "1000")
		cmd.Stdout, cmd.Stderr = os.NewFile(1, "stdout"), os.NewFile(2, "stderr")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: name == "escapes"}
		if err := cmd.Start(); err != nil {
			return err
		}
		fmt.Fprintln(os.NewFile(2, "stderr"), "child", cmd.Process.Pid)
	case "stubborn":
		select {}
	case "env":
		fmt.Fprintln(os.NewFile(2, "stderr"), "env", strings.Join(os.Environ(), " "))
	case "web":
		return k.Serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %s %q", r.RequestURI, r.Host, r.Header.Values("X-Gantry-Principal"))
		}))
	}
	<-ctx.Done()
	return nil
}
