package flat

import (
	"encoding/json"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

// frameworkSummary is what /state-summary has of a framework.
type frameworkSummary struct {
	ID           string    `json:"id"`
	Name         string    `json:"name"`
	Used         resources `json:"used_resources"`
	Offered      resources `json:"offered_resources"`
	Capabilities []string  `json:"capabilities"`
	Hostname     string    `json:"hostname"`
	WebUI        string    `json:"webui_url"`
	Active       bool      `json:"active"`
	Connected    bool      `json:"connected"`
	Recovered    bool      `json:"recovered"`
}

type framework struct {
	frameworkSummary
	User            string            `json:"user"`
	FailoverTimeout float64           `json:"failover_timeout"`
	Checkpoint      bool              `json:"checkpoint"`
	Registered      float64           `json:"registered_time"`
	Unregistered    float64           `json:"unregistered_time"`
	Principal       *string           `json:"principal,omitempty"`
	Resources       resources         `json:"resources"`
	Reregistered    *float64          `json:"reregistered_time,omitempty"`
	Role            *string           `json:"role,omitempty"`
	Roles           *[]string         `json:"roles,omitempty"` // instead, of who may have several
	Tasks           []task            `json:"tasks"`
	Unreachable     []task            `json:"unreachable_tasks"`
	Completed       []task            `json:"completed_tasks"`
	Offers          []offer           `json:"offers"`
	Executors       []executor        `json:"executors"`
	Labels          []json.RawMessage `json:"labels,omitempty"`
}

type offer struct {
	ID         string          `json:"id"`
	Framework  string          `json:"framework_id"`
	Allocation json.RawMessage `json:"allocation_info,omitempty"`
	Agent      string          `json:"slave_id"`
	Resources  resources       `json:"resources"`
}

type executor struct {
	ID        string            `json:"executor_id"`
	Name      string            `json:"name"`
	Framework string            `json:"framework_id"`
	Command   json.RawMessage   `json:"command,omitempty"`
	Resources resources         `json:"resources"`
	Role      string            `json:"role,omitempty"`
	Labels    []json.RawMessage `json:"labels,omitempty"`
	Type      string            `json:"type,omitempty"`
	Agent     string            `json:"slave_id"`
}

func flatSummary(f *masterpb.Response_GetFrameworks_Framework) frameworkSummary {
	info := f.GetFrameworkInfo()
	v := frameworkSummary{
		ID: info.GetId().GetValue(), Name: info.GetName(),
		Used: flatten(f.GetAllocatedResources()), Offered: flatten(f.GetOfferedResources()), Capabilities: []string{},
		Hostname: info.GetHostname(), WebUI: info.GetWebuiUrl(),
		Active: f.GetActive(), Connected: f.GetConnected(), Recovered: f.GetRecovered(),
	}
	for _, c := range info.GetCapabilities() {
		v.Capabilities = append(v.Capabilities, c.GetType().String())
	}
	return v
}

// members are what belongs to frameworks, by the framework's id.
type members struct {
	tasks, unreachable, completed map[string][]task
	executors                     map[string][]executor
}

func membersOf(s *masterpb.Response_GetState) members {
	m := members{
		tasks: byFramework(s.GetGetTasks().GetTasks()), unreachable: byFramework(s.GetGetTasks().GetUnreachableTasks()),
		completed: byFramework(s.GetGetTasks().GetCompletedTasks()), executors: map[string][]executor{},
	}
	for _, e := range s.GetGetExecutors().GetExecutors() {
		fid := e.GetExecutorInfo().GetFrameworkId().GetValue()
		m.executors[fid] = append(m.executors[fid], flatExecutor(e))
	}
	return m
}

func byFramework(tasks []*mesos.Task) map[string][]task {
	all := map[string][]task{}
	for _, t := range tasks {
		fid := t.GetFrameworkId().GetValue()
		all[fid] = append(all[fid], flatTask(t))
	}
	return all
}

func flatExecutor(e *masterpb.Response_GetExecutors_Executor) executor {
	info := e.GetExecutorInfo()
	v := executor{
		ID: info.GetExecutorId().GetValue(), Name: info.GetName(), Framework: info.GetFrameworkId().GetValue(),
		Resources: flatten(info.GetResources()), Labels: labels(info.GetLabels()), Agent: e.GetAgentId().GetValue(),
	}
	if info.Command != nil {
		v.Command = wire(info.Command)
	}
	if len(info.GetResources()) > 0 {
		v.Role = allocatedTo(info.GetResources())
	}
	if info.Type != nil {
		v.Type = info.GetType().String()
	}
	return v
}

func (m members) framework(f *masterpb.Response_GetFrameworks_Framework) framework {
	info := f.GetFrameworkInfo()
	id := info.GetId().GetValue()
	v := framework{
		frameworkSummary: flatSummary(f), User: info.GetUser(), FailoverTimeout: info.GetFailoverTimeout(), Checkpoint: info.GetCheckpoint(),
		Registered: seconds(f.GetRegisteredTime()), Unregistered: seconds(f.GetUnregisteredTime()), Principal: info.Principal,
		Resources: flatten(f.GetAllocatedResources(), f.GetOfferedResources()),
		Tasks:     listed(m.tasks[id]), Unreachable: listed(m.unreachable[id]), Completed: listed(m.completed[id]),
		Offers: []offer{}, Executors: listed(m.executors[id]), Labels: labels(info.GetLabels()),
	}
	if again := seconds(f.GetReregisteredTime()); again != v.Registered && again != 0 {
		v.Reregistered = &again
	}
	role := info.GetRole()
	v.Role = &role
	for _, c := range info.GetCapabilities() {
		if c.GetType() == mesos.FrameworkInfo_Capability_MULTI_ROLE {
			roles := listed(info.GetRoles())
			v.Role, v.Roles = nil, &roles
		}
	}
	for _, o := range f.GetOffers() {
		v.Offers = append(v.Offers, flatOffer(o))
	}
	return v
}

func flatOffer(o *mesos.Offer) offer {
	v := offer{
		ID: o.GetId().GetValue(), Framework: o.GetFrameworkId().GetValue(), Agent: o.GetAgentId().GetValue(), Resources: flatten(o.GetResources()),
	}
	if o.AllocationInfo != nil {
		v.Allocation = wire(o.AllocationInfo)
	}
	return v
}

// frameworks are the frameworks of a list; with an id, that one only.
func (m members) frameworks(list []*masterpb.Response_GetFrameworks_Framework, only string) []framework {
	all := []framework{}
	for _, f := range list {
		if only == "" || f.GetFrameworkInfo().GetId().GetValue() == only {
			all = append(all, m.framework(f))
		}
	}
	return all
}

// Frameworks is /frameworks; with an id, of that framework only.
func Frameworks(s *masterpb.Response_GetState, only string) any {
	m := membersOf(s)
	return struct {
		Frameworks   []framework `json:"frameworks"`
		Completed    []framework `json:"completed_frameworks"`
		Unregistered []framework `json:"unregistered_frameworks"` // there are none any more
	}{
		m.frameworks(s.GetGetFrameworks().GetFrameworks(), only),
		m.frameworks(s.GetGetFrameworks().GetCompletedFrameworks(), only), []framework{},
	}
}
