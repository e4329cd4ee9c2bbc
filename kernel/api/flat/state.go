package flat

import (
	"encoding/json"
	"slices"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

// Master is what /state tells of the master itself.
type Master struct {
	Master      *masterpb.Response_GetMaster
	Version     *mesos.VersionInfo
	Flags       []*mesos.Flag
	Unreachable int // agents
}

// Flags is /flags.
func Flags(flags []*mesos.Flag) any {
	return struct {
		Flags map[string]string `json:"flags"`
	}{flagMap(flags)}
}

func flagMap(flags []*mesos.Flag) map[string]string {
	all := map[string]string{}
	for _, f := range flags {
		all[f.GetName()] = f.GetValue()
	}
	return all
}

// Metrics is /metrics/snapshot.
func Metrics(all []*mesos.Metric) any {
	values := map[string]float64{}
	for _, m := range all {
		values[m.GetName()] = m.GetValue()
	}
	return values
}

type state struct {
	Version      string            `json:"version"`
	GitSHA       *string           `json:"git_sha,omitempty"`
	BuildDate    *string           `json:"build_date,omitempty"`
	BuildTime    *float64          `json:"build_time,omitempty"`
	BuildUser    *string           `json:"build_user,omitempty"`
	Start        float64           `json:"start_time"`
	Elected      float64           `json:"elected_time"`
	ID           string            `json:"id"`
	PID          string            `json:"pid"`
	Hostname     string            `json:"hostname"`
	Capabilities []string          `json:"capabilities"`
	Activated    int               `json:"activated_slaves"`
	Deactivated  int               `json:"deactivated_slaves"`
	Unreachable  int               `json:"unreachable_slaves"`
	Domain       json.RawMessage   `json:"domain,omitempty"`
	Leader       string            `json:"leader"`
	LeaderInfo   leader            `json:"leader_info"`
	Flags        map[string]string `json:"flags"`
	Slaves       []agent           `json:"slaves"`
	Recovered    []agentInfo       `json:"recovered_slaves"`
	Frameworks   []framework       `json:"frameworks"`
	Completed    []framework       `json:"completed_frameworks"`
	Orphans      []task            `json:"orphan_tasks"`            // there are none any more,
	Unregistered []framework       `json:"unregistered_frameworks"` // nor these
}

type leader struct {
	ID           string          `json:"id"`
	PID          string          `json:"pid"`
	Port         uint32          `json:"port"`
	Hostname     string          `json:"hostname"`
	Domain       json.RawMessage `json:"domain,omitempty"`
	Capabilities []string        `json:"capabilities"`
}

func flatLeader(info *mesos.MasterInfo) leader {
	v := leader{ID: info.GetId(), PID: info.GetPid(), Port: info.GetPort(), Hostname: info.GetHostname(), Capabilities: []string{}}
	if info.GetDomain() != nil {
		v.Domain = wire(info.Domain)
	}
	for _, c := range info.GetCapabilities() {
		v.Capabilities = append(v.Capabilities, c.GetType().String())
	}
	return v
}

// State is /state.
func State(s *masterpb.Response_GetState, m Master) any {
	info := m.Master.GetMasterInfo()
	of := membersOf(s)
	lead := flatLeader(info)
	v := state{
		Version: m.Version.GetVersion(), GitSHA: m.Version.GitSha, BuildDate: m.Version.BuildDate, BuildTime: m.Version.BuildTime, BuildUser: m.Version.BuildUser,
		Start: m.Master.GetStartTime(), Elected: m.Master.GetElectedTime(), ID: info.GetId(), PID: info.GetPid(), Hostname: info.GetHostname(),
		Capabilities: lead.Capabilities, Unreachable: m.Unreachable, Domain: lead.Domain, Leader: info.GetPid(), LeaderInfo: lead,
		Flags: flagMap(m.Flags), Slaves: []agent{}, Recovered: recovered(s.GetGetAgents(), ""),
		Frameworks: of.frameworks(s.GetGetFrameworks().GetFrameworks(), ""),
		Completed:  of.frameworks(s.GetGetFrameworks().GetCompletedFrameworks(), ""),
		Orphans:    []task{}, Unregistered: []framework{},
	}
	for _, a := range s.GetGetAgents().GetAgents() {
		v.Slaves = append(v.Slaves, flatAgent(a))
		if a.GetActive() {
			v.Activated++
		} else {
			v.Deactivated++
		}
	}
	return v
}

// counts are how many tasks are in each state.
type counts struct {
	Staging     int `json:"TASK_STAGING"`
	Starting    int `json:"TASK_STARTING"`
	Running     int `json:"TASK_RUNNING"`
	Killing     int `json:"TASK_KILLING"`
	Finished    int `json:"TASK_FINISHED"`
	Killed      int `json:"TASK_KILLED"`
	Failed      int `json:"TASK_FAILED"`
	Lost        int `json:"TASK_LOST"`
	Error       int `json:"TASK_ERROR"`
	Unreachable int `json:"TASK_UNREACHABLE"`
}

func (c *counts) add(s mesos.TaskState) {
	switch s {
	case mesos.TaskState_TASK_STAGING:
		c.Staging++
	case mesos.TaskState_TASK_STARTING:
		c.Starting++
	case mesos.TaskState_TASK_RUNNING:
		c.Running++
	case mesos.TaskState_TASK_KILLING:
		c.Killing++
	case mesos.TaskState_TASK_FINISHED:
		c.Finished++
	case mesos.TaskState_TASK_KILLED:
		c.Killed++
	case mesos.TaskState_TASK_FAILED:
		c.Failed++
	case mesos.TaskState_TASK_LOST:
		c.Lost++
	case mesos.TaskState_TASK_ERROR:
		c.Error++
	case mesos.TaskState_TASK_UNREACHABLE:
		c.Unreachable++
	}
}

// tally is the tasks of one agent or framework: how many, and with whom.
type tally struct {
	counts
	with map[string]bool
}

type tallies map[string]*tally

func (all tallies) add(of, with string, s mesos.TaskState) {
	if all[of] == nil {
		all[of] = &tally{with: map[string]bool{}}
	}
	all[of].add(s)
	all[of].with[with] = true
}

func (all tallies) of(id string) (counts, []string) {
	t := all[id]
	if t == nil {
		return counts{}, []string{}
	}
	with := []string{}
	for id := range t.with {
		with = append(with, id)
	}
	slices.Sort(with)
	return t.counts, with
}

type agentSummary struct {
	agent
	counts
	Frameworks []string `json:"framework_ids"`
}

type frameworkTally struct {
	frameworkSummary
	counts
	Agents []string `json:"slave_ids"`
}

// Summary is /state-summary: tasks are counted, not listed.
func Summary(s *masterpb.Response_GetState, m Master) any {
	agents, frameworks := tallies{}, tallies{}
	tasks := s.GetGetTasks()
	for _, list := range [][]*mesos.Task{tasks.GetTasks(), tasks.GetUnreachableTasks(), tasks.GetCompletedTasks()} {
		for _, t := range list {
			aid, fid := t.GetAgentId().GetValue(), t.GetFrameworkId().GetValue()
			agents.add(aid, fid, t.GetState())
			frameworks.add(fid, aid, t.GetState())
		}
	}
	v := struct {
		Hostname   string           `json:"hostname"`
		Slaves     []agentSummary   `json:"slaves"`
		Frameworks []frameworkTally `json:"frameworks"`
	}{m.Master.GetMasterInfo().GetHostname(), []agentSummary{}, []frameworkTally{}}
	for _, a := range s.GetGetAgents().GetAgents() {
		c, with := agents.of(a.GetAgentInfo().GetId().GetValue())
		v.Slaves = append(v.Slaves, agentSummary{flatAgent(a), c, with})
	}
	for _, f := range s.GetGetFrameworks().GetFrameworks() {
		c, with := frameworks.of(f.GetFrameworkInfo().GetId().GetValue())
		v.Frameworks = append(v.Frameworks, frameworkTally{flatSummary(f), c, with})
	}
	return v
}

type role struct {
	Name       string    `json:"name"`
	Weight     float64   `json:"weight"`
	Allocated  resources `json:"allocated"`
	Offered    resources `json:"offered"`
	Reserved   resources `json:"reserved"`
	Resources  resources `json:"resources"`
	Frameworks []string  `json:"frameworks"`
}

// Roles is /roles. What is allocated and what is offered is parted as the state has it, of
// the same moment if the caller can have it so.
func Roles(roles *masterpb.Response_GetRoles, s *masterpb.Response_GetState) any {
	allocated, offered, reserved := map[string][]*mesos.Resource{}, map[string][]*mesos.Resource{}, map[string][]*mesos.Resource{}
	for _, f := range s.GetGetFrameworks().GetFrameworks() {
		for _, r := range f.GetAllocatedResources() {
			allocated[r.GetAllocationInfo().GetRole()] = append(allocated[r.GetAllocationInfo().GetRole()], r)
		}
		for _, r := range f.GetOfferedResources() {
			offered[r.GetAllocationInfo().GetRole()] = append(offered[r.GetAllocationInfo().GetRole()], r)
		}
	}
	for _, a := range s.GetGetAgents().GetAgents() {
		for _, r := range a.GetTotalResources() {
			reserved[reservedTo(r)] = append(reserved[reservedTo(r)], r)
		}
	}
	v := struct {
		Roles []role `json:"roles"`
	}{[]role{}}
	for _, r := range roles.GetRoles() {
		name := r.GetName()
		flat := role{
			Name: name, Weight: r.GetWeight(), Allocated: flatten(allocated[name]), Offered: flatten(offered[name]),
			Reserved: flatten(reserved[name]), Resources: flatten(r.GetResources()), Frameworks: []string{},
		}
		for _, f := range r.GetFrameworks() {
			flat.Frameworks = append(flat.Frameworks, f.GetValue())
		}
		v.Roles = append(v.Roles, flat)
	}
	return v
}
