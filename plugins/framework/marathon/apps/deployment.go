package apps

import (
	"crypto/sha256"
	"fmt"
	"slices"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Kinds of Action.
const (
	StartApplication   = "StartApplication"
	ScaleApplication   = "ScaleApplication"
	RestartApplication = "RestartApplication"
	StopApplication    = "StopApplication"
)

// Action is what a deployment does to one app.
type Action struct {
	Kind string `json:"action"`
	App  string `json:"app"`
}

// Deployment is the way from one set of definitions to another. While it lasts its apps
// are locked.
type Deployment struct {
	ID      string   `json:"id"`
	Version string   `json:"version"`
	Actions []Action `json:"actions"`
}

type deployment struct{ Deployment }

func deploymentKey(id string) string { return deploymentPrefix + id }

// newDeploymentID has the form of a UUID and comes from the incarnation and counter.
func (m *Machine) newDeploymentID() string {
	m.counter++
	sum := sha256.Sum256(fmt.Appendf(nil, "deployment %s %d %d", m.config.FrameworkID, m.incarnation, m.counter))
	sum[6] = sum[6]&0x0f | 0x80 // version 8: made by a rule of its own
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// locks are the deployments that work on app.
func (m *Machine) locks(app string) []string {
	var ids []string
	for _, d := range m.deployments {
		if d.touches(app) {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

func (d *deployment) touches(app string) bool {
	return slices.ContainsFunc(d.Actions, func(a Action) bool { return a.App == app })
}

// makeRoom checks that the apps may be changed: with force the deployments in the way are
// cancelled, otherwise they are a *LockedError. Error: ErrTooMany.
func (m *Machine) makeRoom(t turn, apps []string, force bool) error {
	touched := make(map[string]bool, len(apps))
	for _, app := range apps {
		touched[app] = true
	}
	var inTheWay []string
	for _, d := range m.deployments {
		if slices.ContainsFunc(d.Actions, func(a Action) bool { return touched[a.App] }) {
			inTheWay = append(inTheWay, d.ID)
		}
	}
	if len(inTheWay) > 0 && !force {
		return &LockedError{Deployments: inTheWay}
	}
	if len(m.deployments)-len(inTheWay) >= maxDeployments {
		return fmt.Errorf("%w deployments are running: %d, at most %d are allowed; wait for one to end", ErrTooMany, len(m.deployments), maxDeployments)
	}
	for _, id := range inTheWay {
		m.endDeployment(t, id)
	}
	return nil
}

// endDeployment forgets one, done or cancelled.
func (m *Machine) endDeployment(t turn, id string) {
	m.deployments = slices.DeleteFunc(m.deployments, func(d *deployment) bool { return d.ID == id })
	t.erase(deploymentKey(id))
}

// deploy records a new deployment; without actions there is nothing to wait for.
func (m *Machine) deploy(t turn, version string, actions []Action) Deployment {
	d := Deployment{ID: m.newDeploymentID(), Version: version, Actions: actions}
	if len(actions) > 0 {
		m.deployments = append(m.deployments, &deployment{Deployment: d})
		t.put(encode(deploymentKey(d.ID), record{Deployment: &d}))
	}
	return d
}

// finishDeployments ends those whose every app is where it should be.
func (m *Machine) finishDeployments(t turn) {
	for _, d := range slices.Clone(m.deployments) {
		if !slices.ContainsFunc(d.Actions, func(a Action) bool { return !m.arrived(a) }) {
			m.endDeployment(t, d.ID)
		}
	}
}

func (m *Machine) arrived(action Action) bool {
	a := m.apps[action.App]
	if a.removed {
		return len(a.instances) == 0
	}
	spec := a.spec()
	if len(a.instances) != spec.Instances {
		return false
	}
	for _, i := range a.instances {
		if i.Doomed || i.Config != spec.VersionInfo.LastConfigChangeAt || i.State != mesos.TaskState_TASK_RUNNING.String() {
			return false
		}
		if action.Kind != ScaleApplication && !i.healthy() {
			return false
		}
	}
	return true
}
