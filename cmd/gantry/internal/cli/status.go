package cli

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

// amount is what there is of a resource and what of it is in use.
type amount struct {
	Used  float64 `json:"used"`
	Total float64 `json:"total"`
}

type statusView struct {
	Master     string          `json:"master"`
	Agents     int             `json:"agents"`
	Active     int             `json:"active_agents"`
	CPUs       amount          `json:"cpus"`
	MemMB      amount          `json:"mem_mb"`
	Frameworks []string        `json:"frameworks"`
	Tasks      map[string]int  `json:"tasks"` // by state
	Plugins    []client.Plugin `json:"plugins"`
}

func (s *session) statusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "What the cluster has and what runs on it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			state, err := c.State(cmd.Context())
			if err != nil {
				return err
			}
			plugins, err := c.Plugins(cmd.Context())
			if err != nil {
				return err
			}
			v := statusOf(state)
			v.Master, v.Plugins = c.Master(), plugins
			return s.show(v, v.draw)
		},
	}
	s.jsonFlag(c)
	return c
}

func statusOf(state *masterpb.Response_GetState) statusView {
	v := statusView{Tasks: map[string]int{}, Frameworks: []string{}}
	for _, a := range state.GetGetAgents().GetAgents() {
		v.Agents++
		if a.GetActive() {
			v.Active++
		}
		v.CPUs.add(a, "cpus")
		v.MemMB.add(a, "mem")
	}
	for _, f := range state.GetGetFrameworks().GetFrameworks() {
		v.Frameworks = append(v.Frameworks, f.GetFrameworkInfo().GetName())
	}
	for _, t := range state.GetGetTasks().GetTasks() {
		v.Tasks[shortState(t.GetState())]++
	}
	return v
}

func (a *amount) add(agent *masterpb.Response_GetAgents_Agent, resource string) {
	a.Total += scalar(agent.GetTotalResources(), resource)
	a.Used += scalar(agent.GetAllocatedResources(), resource)
}

// scalar sums the resources of one name.
func scalar(resources []*mesos.Resource, name string) float64 {
	var milli int64 // as the kernel counts: thousandths, so that sums stay exact
	for _, r := range resources {
		if r.GetName() == name {
			milli += int64(r.GetScalar().GetValue()*1000 + 0.5)
		}
	}
	return float64(milli) / 1000
}

func (v statusView) draw(t *table) {
	t.row("master", v.Master)
	t.row("agents", fmt.Sprintf("%d, %d active", v.Agents, v.Active))
	t.row("cpus", number(v.CPUs.Used)+" of "+number(v.CPUs.Total)+" in use")
	t.row("memory", number(v.MemMB.Used)+" of "+number(v.MemMB.Total)+" MB in use")
	t.row("frameworks", list(v.Frameworks))
	states := make([]string, 0, len(v.Tasks))
	for state, n := range v.Tasks {
		states = append(states, fmt.Sprintf("%d %s", n, state))
	}
	sort.Strings(states)
	t.row("tasks", list(states))
	for i, p := range v.Plugins {
		title := ""
		if i == 0 {
			title = "plugins"
		}
		text := fmt.Sprintf("%s %s: %s", p.Kind, p.Name, p.State)
		if p.Problem != "" {
			text += ", " + p.Problem
		}
		t.line("%s\t%s", title, text)
	}
}

func list(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	text := words[0]
	for _, w := range words[1:] {
		text += ", " + w
	}
	return text
}

type agentView struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Active  bool   `json:"active"`
	CPUs    amount `json:"cpus"`
	MemMB   amount `json:"mem_mb"`
	Version string `json:"version"`

	// Attributes are as --attributes has them: "rack:a".
	Attributes []string `json:"attributes"`
}

// attribute is NAME:VALUE, numbers and ranges written as those of resources.
func attribute(a *mesos.Attribute) string {
	value := a.GetText().GetValue()
	switch a.GetType() {
	case mesos.Value_SCALAR:
		value = number(a.GetScalar().GetValue())
	case mesos.Value_RANGES:
		var parts []string
		for _, r := range a.GetRanges().GetRange() {
			parts = append(parts, fmt.Sprintf("%d-%d", r.GetBegin(), r.GetEnd()))
		}
		value = "[" + strings.Join(parts, ", ") + "]"
	case mesos.Value_SET:
		value = "{" + strings.Join(a.GetSet().GetItem(), ", ") + "}"
	}
	return a.GetName() + ":" + value
}

// agentCommand puts `agent list` below the daemon's own command.
func (s *session) agentCommand(daemon *cobra.Command) *cobra.Command {
	if daemon == nil {
		daemon = parent("agent", "Agents of the cluster")
	}
	if daemon.Args == nil {
		daemon.Args = cobra.NoArgs
	}
	c := &cobra.Command{
		Use:   "list",
		Short: "The agents that the master knows",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			agents, err := c.Agents(cmd.Context())
			if err != nil {
				return err
			}
			views := make([]agentView, 0, len(agents))
			for _, a := range agents {
				v := agentView{
					ID:      a.GetAgentInfo().GetId().GetValue(),
					Address: client.AgentAddress(a.GetAgentInfo()),
					Active:  a.GetActive(),
					Version: a.GetVersion(),

					Attributes: []string{},
				}
				for _, attr := range a.GetAgentInfo().GetAttributes() {
					v.Attributes = append(v.Attributes, attribute(attr))
				}
				v.CPUs.add(a, "cpus")
				v.MemMB.add(a, "mem")
				views = append(views, v)
			}
			return s.show(views, func(t *table) { drawAgents(t, views) })
		},
	}
	s.jsonFlag(c)
	daemon.AddCommand(c)
	return daemon
}

func drawAgents(t *table, views []agentView) {
	t.row("ID", "ADDRESS", "ACTIVE", "CPUS USED", "OF", "MB USED", "OF", "ATTRIBUTES")
	for _, v := range views {
		t.row(v.ID, v.Address, yes(v.Active), number(v.CPUs.Used), number(v.CPUs.Total),
			number(v.MemMB.Used), number(v.MemMB.Total), strings.Join(v.Attributes, "; "))
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (s *session) pluginCommand() *cobra.Command {
	group := parent("plugin", "The plugins of the cluster")
	var agent string
	c := &cobra.Command{
		Use:   "list",
		Short: "Which plugins run, and why one does not",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			ask := c.Plugins
			if agent != "" {
				ask = func(ctx context.Context) ([]client.Plugin, error) { return c.AgentPlugins(ctx, agent) }
			}
			plugins, err := ask(cmd.Context())
			if err != nil {
				return err
			}
			return s.show(plugins, func(t *table) {
				t.row("NAME", "KIND", "STATE", "RESTARTS", "LISTENS", "PROBLEM")
				for _, p := range plugins {
					t.row(p.Name, p.Kind, p.State, strconv.Itoa(p.Restarts), p.Listen, p.Problem)
				}
			})
		},
	}
	c.Flags().StringVar(&agent, "agent", "", "HOST:PORT of an agent, whose containerizers are to be shown in place of the master's plugins")
	s.jsonFlag(c)
	group.AddCommand(c)
	return group
}
