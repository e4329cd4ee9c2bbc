package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
)

const defaultMaster = "127.0.0.1:5050"

// session is one invocation: its flags, and where it writes.
type session struct {
	out, err io.Writer

	workDir string
	master  string // as --master said
	json    bool
	started bool // the command line was understood
}

func (s *session) jsonFlag(c *cobra.Command) {
	c.Flags().BoolVar(&s.json, "json", false, "print JSON")
}

// cluster returns where the cluster answers, as far as flags and files tell; its Marathon and Chronos may be empty.
func (s *session) cluster() (daemon.Cluster, error) {
	if s.master != "" {
		return daemon.Cluster{Master: strings.TrimSuffix(strings.TrimPrefix(s.master, "http://"), "/")}, nil
	}
	cluster, err := daemon.ReadCluster(s.workDir)
	if errors.Is(err, fs.ErrNotExist) {
		return daemon.Cluster{Master: defaultMaster}, nil
	}
	return cluster, err
}

// address is for messages: where the master was looked for.
func (s *session) address() string {
	cluster, err := s.cluster()
	if err != nil {
		return s.workDir
	}
	return cluster.Master
}

func (s *session) client() (*client.Client, error) {
	cluster, err := s.cluster()
	return of(cluster), err
}

// of is a client of a cluster's masters.
func of(cluster daemon.Cluster) *client.Client {
	if len(cluster.Masters) == 0 { // from the command line
		return client.New(cluster.Master, cluster.Marathon)
	}
	return client.Of(cluster.Masters, cluster.Marathon)
}

// marathon returns a client that knows where Marathon answers.
func (s *session) marathon(ctx context.Context) (*client.Client, error) {
	cluster, err := s.cluster()
	if err != nil {
		return nil, err
	}
	cluster.Marathon, err = listener(ctx, cluster, "marathon", cluster.Marathon)
	if errors.Is(err, errNoPlugin) {
		return nil, errors.New("this cluster runs no Marathon, which keeps the services: `gantry plugin list` shows what it runs")
	}
	return of(cluster), err
}

// chronos returns a client that knows where Chronos answers.
func (s *session) chronos(ctx context.Context) (*client.Client, error) {
	cluster, err := s.cluster()
	if err != nil {
		return nil, err
	}
	address, err := listener(ctx, cluster, "chronos", cluster.Chronos)
	if errors.Is(err, errNoPlugin) {
		return nil, errors.New("this cluster runs no Chronos, which runs the jobs: `gantry plugin list` shows what it runs")
	}
	return of(cluster).WithChronos(address), err
}

var errNoPlugin = errors.New("no such plugin listens")

// listener returns where a plugin answers: as known, or as the master says where no file tells.
func listener(ctx context.Context, cluster daemon.Cluster, name, known string) (string, error) {
	if known != "" {
		return known, nil
	}
	plugins, err := of(cluster).Plugins(ctx)
	if err != nil {
		return "", err
	}
	for _, p := range plugins {
		if p.Name == name && p.Listen != "" {
			return besides(cluster.Master, p.Listen), nil
		}
	}
	return "", errNoPlugin
}

// besides is the address of a listener as seen from here: one on a wildcard answers where the master does.
func besides(master, listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return listen
	}
	masterHost, _, err := net.SplitHostPort(master)
	if err != nil {
		return listen
	}
	return net.JoinHostPort(masterHost, port)
}

// elsewhere tells that a part of the cluster other than its master does not answer.
func elsewhere(what string, err error) error {
	if errors.Is(err, client.ErrUnreachable) {
		return fmt.Errorf("%s does not answer: %v", what, err) // %v: the cluster itself is there
	}
	return err
}
