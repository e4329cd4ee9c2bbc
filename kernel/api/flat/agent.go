package flat

import (
	"encoding/json"
	"fmt"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

// agentInfo is what an agent says of itself.
type agentInfo struct {
	ID         string          `json:"id"`
	Hostname   string          `json:"hostname"`
	Port       int32           `json:"port"`
	Attributes map[string]any  `json:"attributes"`
	Domain     json.RawMessage `json:"domain,omitempty"`
}

type agent struct {
	agentInfo
	PID          string               `json:"pid"`
	Registered   float64              `json:"registered_time"`
	Reregistered *float64             `json:"reregistered_time,omitempty"`
	Resources    resources            `json:"resources"`
	Used         resources            `json:"used_resources"`
	Offered      resources            `json:"offered_resources"`
	Reserved     map[string]resources `json:"reserved_resources"`
	Unreserved   resources            `json:"unreserved_resources"`
	Active       bool                 `json:"active"`
	Deactivated  bool                 `json:"deactivated"`
	Version      string               `json:"version"`
	Capabilities []string             `json:"capabilities"`
}

// fullAgent has the resources as they stand on the wire, too.
type fullAgent struct {
	agent
	ReservedFull   map[string][]json.RawMessage `json:"reserved_resources_full"`
	UnreservedFull []json.RawMessage            `json:"unreserved_resources_full"`
	UsedFull       []json.RawMessage            `json:"used_resources_full"`
	OfferedFull    []json.RawMessage            `json:"offered_resources_full"`
}

func flatInfo(info *mesos.AgentInfo) agentInfo {
	v := agentInfo{
		ID: info.GetId().GetValue(), Hostname: info.GetHostname(), Port: info.GetPort(), Attributes: attributes(info.GetAttributes()),
	}
	if info.Domain != nil {
		v.Domain = wire(info.Domain)
	}
	return v
}

func flatAgent(a *masterpb.Response_GetAgents_Agent) agent {
	info := a.GetAgentInfo()
	v := agent{
		agentInfo: flatInfo(info), PID: fmt.Sprintf("slave(1)@%s:%d", info.GetHostname(), info.GetPort()),
		Registered: seconds(a.GetRegisteredTime()),
		Resources:  flatten(a.GetTotalResources()), Used: flatten(a.GetAllocatedResources()), Offered: flatten(a.GetOfferedResources()),
		Reserved: map[string]resources{}, Active: a.GetActive(), Deactivated: a.GetDeactivated(), Version: a.GetVersion(),
		Capabilities: []string{},
	}
	if again := seconds(a.GetReregisteredTime()); again != v.Registered && again != 0 {
		v.Reregistered = &again
	}
	for role, part := range byReservation(a.GetTotalResources()) {
		if role != "" {
			v.Reserved[role] = flatten(part)
		} else {
			v.Unreserved = flatten(part)
		}
	}
	if v.Unreserved == nil {
		v.Unreserved = flatten()
	}
	for _, c := range a.GetCapabilities() {
		v.Capabilities = append(v.Capabilities, c.GetType().String())
	}
	return v
}

func flatFullAgent(a *masterpb.Response_GetAgents_Agent) fullAgent {
	parts := byReservation(a.GetTotalResources())
	v := fullAgent{
		agent: flatAgent(a), ReservedFull: map[string][]json.RawMessage{}, UnreservedFull: wires(parts[""]),
		UsedFull: wires(a.GetAllocatedResources()), OfferedFull: wires(a.GetOfferedResources()),
	}
	for role, part := range parts {
		if role != "" {
			v.ReservedFull[role] = wires(part)
		}
	}
	return v
}

// Slaves is /slaves; with an id, of that agent only.
func Slaves(s *masterpb.Response_GetAgents, only string) any {
	v := struct {
		Slaves    []fullAgent `json:"slaves"`
		Recovered []agentInfo `json:"recovered_slaves"`
	}{[]fullAgent{}, recovered(s, only)}
	for _, a := range s.GetAgents() {
		if only == "" || a.GetAgentInfo().GetId().GetValue() == only {
			v.Slaves = append(v.Slaves, flatFullAgent(a))
		}
	}
	return v
}

func recovered(s *masterpb.Response_GetAgents, only string) []agentInfo {
	list := []agentInfo{}
	for _, info := range s.GetRecoveredAgents() {
		if only == "" || info.GetId().GetValue() == only {
			list = append(list, flatInfo(info))
		}
	}
	return list
}
