// Package wire words what the master says, from what it knows to the messages of clients
// and agents. It decides nothing.
//
//	offer := wire.Offer(framework, agent, "web", resources)
//	offer.Id = id
package wire

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/step"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// Offer is an offer of an agent's resources, without its id and executors, in the form
// that the framework's capabilities let it read: a framework of one role is not told of
// allocation roles.
func Offer(f *mesos.FrameworkInfo, a *mesos.AgentInfo, role string, resources ledger.Resources) *mesos.Offer {
	w := &mesos.Offer{
		FrameworkId: f.Id,
		AgentId:     a.Id,
		Hostname:    a.Hostname,
		Url: &mesos.URL{
			Scheme:  proto.String("http"),
			Address: &mesos.Address{Hostname: a.Hostname, Ip: a.Hostname, Port: proto.Int32(a.GetPort())},
			Path:    proto.String("/slave(1)"),
		},
		Domain:     a.Domain,
		Attributes: a.Attributes,
	}
	allocationRole := ""
	if Can(f, mesos.FrameworkInfo_Capability_MULTI_ROLE) {
		allocationRole = role
		w.AllocationInfo = &mesos.Resource_AllocationInfo{Role: proto.String(role)}
	}
	if Can(f, mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT) {
		w.Resources = resources.Mesos(allocationRole)
	} else {
		w.Resources = resources.MesosPlain(allocationRole)
	}
	return w
}

// Can tells whether a framework has a capability.
func Can(f *mesos.FrameworkInfo, c mesos.FrameworkInfo_Capability_Type) bool {
	return slices.ContainsFunc(f.GetCapabilities(), func(have *mesos.FrameworkInfo_Capability) bool {
		return have.GetType() == c
	})
}

// PID is what clients know an agent's process by.
func PID(a *mesos.AgentInfo) string {
	return fmt.Sprintf("slave(1)@%s:%d", a.GetHostname(), a.GetPort())
}

// EndFramework tells an agent that a framework is no more.
func EndFramework(f *mesos.FrameworkInfo) *linkpb.ToAgent {
	return &linkpb.ToAgent{Body: &linkpb.ToAgent_EndFramework{EndFramework: &linkpb.EndFramework{FrameworkId: f.Id}}}
}

// Error is the last that a subscription hears.
func Error(message string) *schedulerpb.Event {
	return &schedulerpb.Event{
		Type:  schedulerpb.Event_ERROR.Enum(),
		Error: &schedulerpb.Event_Error{Message: proto.String(message)},
	}
}

// Time is a point in time; zero is none.
func Time(t step.Time) *mesos.TimeInfo {
	if t == 0 {
		return nil
	}
	return &mesos.TimeInfo{Nanoseconds: proto.Int64(int64(t))}
}
