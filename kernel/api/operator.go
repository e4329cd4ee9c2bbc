package api

import (
	"context"
	"net/http"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	maintenancepb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/maintenance"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
	quotapb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/quota"
)

// operator is POST /api/v1.
func (m *master) operator(w http.ResponseWriter, r *http.Request) {
	call := &masterpb.Call{}
	taken, ok := m.receive(w, r, call)
	if !ok {
		return
	}
	defer taken.release()
	if what := missingPart(call); what != "" {
		answer(w, Reply{400, "Failed to validate master::Call: " + expecting(what)})
		return
	}
	out, ok := acceptCodec(r)
	if !ok {
		answer(w, notAcceptable())
		return
	}
	if call.GetType() == masterpb.Call_SUBSCRIBE {
		taken.release() // the stream may last for ever
		m.watch(w, r, out)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callWithin)
	defer cancel()
	response, reply := m.carryOut(ctx, caller(r), call)
	if response == nil || reply.Status != 200 {
		answer(w, reply)
		return
	}
	answerMessage(w, out, response)
}

// missingPart names what a call lacks: its type, or the part that has the name of its type.
func missingPart(call *masterpb.Call) string {
	if call.Type == nil {
		return "type"
	}
	part := strings.ToLower(call.GetType().String())
	m := call.ProtoReflect()
	if field := m.Descriptor().Fields().ByName(protoreflect.Name(part)); field != nil && !m.Has(field) {
		return part
	}
	return ""
}

// watch streams what happens to the cluster.
func (m *master) watch(w http.ResponseWriter, r *http.Request, out codec) {
	stream, reply := m.Operator.Watch(r.Context(), caller(r))
	if reply.Status != 200 {
		answer(w, reply)
		return
	}
	defer stream.Close()
	s := &sender[*masterpb.Event]{
		codec:     out,
		heartbeat: &masterpb.Event{Type: masterpb.Event_HEARTBEAT.Enum()},
		opens:     func(e *masterpb.Event) bool { return e.GetType() == masterpb.Event_SUBSCRIBED },
	}
	s.serve(w, r, stream.Events(), m.Heartbeat)
}

// carryOut answers a call: with a response, or with the Reply alone.
func (m *master) carryOut(ctx context.Context, from Caller, call *masterpb.Call) (*masterpb.Response, Reply) {
	if r := m.constant(call.GetType()); r != nil {
		return r, Reply{Status: 200}
	}
	switch call.GetType() {
	case masterpb.Call_UNKNOWN:
		return nil, Reply{501, "501 Not Implemented."}
	case masterpb.Call_GET_STATE, masterpb.Call_GET_AGENTS, masterpb.Call_GET_FRAMEWORKS, masterpb.Call_GET_EXECUTORS,
		masterpb.Call_GET_TASKS, masterpb.Call_GET_ROLES, masterpb.Call_GET_WEIGHTS, masterpb.Call_GET_METRICS, masterpb.Call_GET_MASTER:
		return m.Operator.Query(ctx, from, call)
	case masterpb.Call_UPDATE_WEIGHTS, masterpb.Call_TEARDOWN:
		return nil, m.Operator.Change(ctx, from, call)
	default:
		return nil, notYet(call.GetType())
	}
}

// constant answers what does not depend on the cluster: what the master was started with,
// and the lists of what this version never has.
func (m *master) constant(call masterpb.Call_Type) *masterpb.Response {
	switch call {
	case masterpb.Call_GET_HEALTH:
		yes := true
		return &masterpb.Response{Type: masterpb.Response_GET_HEALTH.Enum(), GetHealth: &masterpb.Response_GetHealth{Healthy: &yes}}
	case masterpb.Call_GET_VERSION:
		return &masterpb.Response{Type: masterpb.Response_GET_VERSION.Enum(), GetVersion: &masterpb.Response_GetVersion{VersionInfo: m.Version}}
	case masterpb.Call_GET_FLAGS:
		return &masterpb.Response{Type: masterpb.Response_GET_FLAGS.Enum(), GetFlags: &masterpb.Response_GetFlags{Flags: m.Flags}}
	case masterpb.Call_GET_LOGGING_LEVEL:
		return &masterpb.Response{Type: masterpb.Response_GET_LOGGING_LEVEL.Enum(), GetLoggingLevel: &masterpb.Response_GetLoggingLevel{Level: new(uint32)}}
	case masterpb.Call_GET_OPERATIONS:
		return &masterpb.Response{Type: masterpb.Response_GET_OPERATIONS.Enum(), GetOperations: &masterpb.Response_GetOperations{}}
	case masterpb.Call_GET_MAINTENANCE_STATUS:
		return &masterpb.Response{
			Type:                 masterpb.Response_GET_MAINTENANCE_STATUS.Enum(),
			GetMaintenanceStatus: &masterpb.Response_GetMaintenanceStatus{Status: &maintenancepb.ClusterStatus{}},
		}
	case masterpb.Call_GET_MAINTENANCE_SCHEDULE:
		return &masterpb.Response{
			Type:                   masterpb.Response_GET_MAINTENANCE_SCHEDULE.Enum(),
			GetMaintenanceSchedule: &masterpb.Response_GetMaintenanceSchedule{Schedule: &maintenancepb.Schedule{}},
		}
	case masterpb.Call_GET_QUOTA:
		return &masterpb.Response{
			Type:     masterpb.Response_GET_QUOTA.Enum(),
			GetQuota: &masterpb.Response_GetQuota{Status: &quotapb.QuotaStatus{}},
		}
	}
	return nil
}
