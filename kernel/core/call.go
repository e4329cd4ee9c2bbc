package core

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/rules"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// Statuses of the replies, as in HTTP.
const (
	statusOK             = 200
	statusAccepted       = 202
	statusBadRequest     = 400
	statusForbidden      = 403
	statusNotFound       = 404
	statusNotImplemented = 501
	statusUnavailable    = 503
)

// sentence is an error in the words of the wire, which begin with a capital letter.
type sentence string

func (s sentence) Error() string { return string(s) }

func sentencef(format string, args ...any) error { return sentence(fmt.Sprintf(format, args...)) }

func (m *Machine) reply(ev Call, status int, message string, out *Effects) {
	out.Replies = append(out.Replies, Reply{Request: ev.Request, Status: status, Message: message})
}

// call checks and carries out a scheduler call.
func (m *Machine) call(ev Call, out *Effects) {
	if ev.Call.GetType() == schedulerpb.Call_SUBSCRIBE {
		if err := rules.SupportedCall(ev.Call); err != nil {
			m.reply(ev, statusNotImplemented, err.Error(), out)
			return
		}
		m.subscribe(ev, out)
		return
	}
	f := m.frameworks[id.Framework(ev.Call.GetFrameworkId().GetValue())]
	if status, message := refusal(f, ev); status != 0 {
		m.reply(ev, status, message, out)
		return
	}
	if err := rules.SupportedCall(ev.Call); err != nil {
		m.reply(ev, statusNotImplemented, err.Error(), out)
		return
	}
	if ev.Call.GetType() == schedulerpb.Call_UPDATE_FRAMEWORK {
		m.updateFramework(f, ev, out)
		return
	}
	m.reply(ev, statusAccepted, "", out)
	switch c := ev.Call; c.GetType() {
	case schedulerpb.Call_TEARDOWN:
		m.removeFramework(f, out)
	case schedulerpb.Call_ACCEPT:
		m.accept(f, c.GetAccept(), out)
	case schedulerpb.Call_DECLINE:
		m.decline(f, c.GetDecline(), out)
	case schedulerpb.Call_REVIVE:
		m.revive(f, c.GetRevive().GetRoles(), out)
	case schedulerpb.Call_SUPPRESS:
		m.suppress(f, c.GetSuppress().GetRoles(), out)
	case schedulerpb.Call_KILL:
		m.kill(f, c.GetKill(), out)
	case schedulerpb.Call_ACKNOWLEDGE:
		m.acknowledge(f, c.GetAcknowledge(), out)
	case schedulerpb.Call_RECONCILE:
		m.reconcile(f, c.GetReconcile().GetTasks(), out)
	case schedulerpb.Call_MESSAGE:
		m.message(f, c.GetMessage(), out)
	case schedulerpb.Call_SHUTDOWN:
		m.shutdown(f, c.GetShutdown(), out)
	case schedulerpb.Call_REQUEST: // accepted and ignored, as ever
	}
}

// refusal makes the checks that need the master's state, in the reference's order and
// words.
func refusal(f *framework, ev Call) (int, string) {
	switch {
	case f == nil || f.removed:
		return statusBadRequest, "Framework cannot be found"
	case ev.Principal != "" && ev.Principal != f.principal:
		return statusBadRequest, fmt.Sprintf("Authenticated principal '%s' does not match principal '%s' set in `FrameworkInfo`", ev.Principal, f.principal)
	case f.stream == "":
		return statusForbidden, "Framework is not subscribed"
	case f.plugin != ev.Plugin:
		return statusForbidden, "Framework is not connected via HTTP"
	case ev.Stream == "":
		return statusBadRequest, "All non-subscribe calls should include the 'Mesos-Stream-Id' header"
	case ev.Stream != f.stream:
		return statusBadRequest, fmt.Sprintf("The stream ID '%s' included in this request didn't match the stream ID currently associated with framework ID %s", ev.Stream, f.id)
	}
	return 0, ""
}

// ofRoles is the named roles of the framework, or all of them when none is named.
func (f *framework) ofRoles(named []string) []string {
	if len(named) == 0 {
		return f.roles
	}
	return slices.DeleteFunc(slices.Sorted(slices.Values(named)), func(role string) bool { return !f.in(role) })
}

// revive makes roles hear offers again, and voids their filters.
func (m *Machine) revive(f *framework, named []string, out *Effects) {
	roles := f.ofRoles(named)
	changed := false
	for _, role := range roles {
		changed = changed || f.suppressed[role]
		delete(f.suppressed, role)
	}
	if changed {
		m.askFramework(f, out)
	}
	m.askRevived(f, roles, out)
}

func (m *Machine) suppress(f *framework, named []string, out *Effects) {
	for _, role := range f.ofRoles(named) {
		f.suppressed[role] = true
	}
	m.askFramework(f, out)
}

// operatorKill ends a task for an operator, as a framework's KILL would.
func (m *Machine) operatorKill(ev KillTask, out *Effects) {
	answer := func(status int, message string) {
		out.Replies = append(out.Replies, Reply{Request: ev.Request, Status: status, Message: message})
	}
	f := m.frameworks[ev.Task.Framework]
	if f == nil || f.tasks[ev.Task.Task] == nil {
		answer(statusNotFound, fmt.Sprintf("No task %s of framework %s is running", ev.Task.Task, ev.Task.Framework))
		return
	}
	answer(statusAccepted, "")
	m.kill(f, &schedulerpb.Call_Kill{TaskId: &mesos.TaskID{Value: proto.String(string(ev.Task.Task))}}, out)
}
