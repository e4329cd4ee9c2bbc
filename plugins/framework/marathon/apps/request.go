package apps

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/gantry-project/gantry/plugins/framework/marathon/definition"
)

// Op is what a client asks: one of Edit, Kill, Cancel and ResetDelay.
type Op interface{ op() }

// Manner is how a Change treats the definition that is there.
type Manner int

// Manners of a Change. All but Create, Update and Replace need the app to exist.
const (
	// Create makes a new app and refuses an id that is taken.
	Create Manner = iota
	// Update lays the body over the definition there is, or over the defaults.
	Update
	// UpdateExisting is Update for an app that must exist.
	UpdateExisting
	// Replace lays the body over the defaults.
	Replace
	// Restart replaces all instances.
	Restart
	// Remove ends the app.
	Remove
)

// Change is one app's part of an Edit.
type Change struct {
	App    string // absolute id
	Manner Manner
	Body   definition.Patch
}

// Edit changes definitions, all or none, and starts a deployment.
type Edit struct {
	Changes []Change
	// Force cancels the deployments in the way.
	Force bool
}

// Kill ends instances; they are replaced unless Scale.
type Kill struct {
	// App and Host select: all instances of App, on hosts whose name holds Host ("" and
	// "*": all). Without App, Tasks are the ids.
	App  string
	Host string
	// Tasks that do not exist are passed over, but for MustExist.
	Tasks     []string
	MustExist bool
	// Scale also lowers the wanted number of instances; Force is as in Edit.
	Scale bool
	Force bool
}

// Cancel ends a deployment and leaves everything as it is.
type Cancel struct{ Deployment string }

// ResetDelay lets an app launch at once.
type ResetDelay struct{ App string }

func (Edit) op()       {}
func (Kill) op()       {}
func (Cancel) op()     {}
func (ResetDelay) op() {}

// Reply answers the request with its token. With an Err nothing was changed.
type Reply struct {
	Token uint64
	// Err is an *definition.InvalidError, a *LockedError or wraps ErrNotFound, ErrExists or ErrTooMany.
	Err        error
	Deployment Deployment
	// Created says that the app of a single-change Edit is new; App is its definition.
	Created bool
	App     definition.App
	// Tasks are those that a Kill without Scale ended, as they were.
	Tasks []Task
}

func (m *Machine) request(t turn, r Request) {
	var reply Reply
	switch op := r.Op.(type) {
	case Edit:
		reply, reply.Err = m.edit(t, op)
	case Kill:
		reply, reply.Err = m.killTasks(t, op)
	case Cancel:
		reply.Err = m.cancel(t, op)
	case ResetDelay:
		reply.Err = m.resetDelay(op)
	default:
		panic(fmt.Sprintf("apps: unknown request %T", op))
	}
	reply.Token = r.Token
	t.reply(reply)
}

// target is what an edit will do to one app.
type target struct {
	app    *app // nil for a new one
	id     string
	spec   *definition.App // nil to remove
	action string          // empty while it is not judged, and after when nothing changes
}

func (m *Machine) edit(t turn, e Edit) (Reply, error) {
	ids, err := m.named(e)
	if err != nil {
		return Reply{}, err
	}
	targets := make([]target, len(e.Changes))
	for i, c := range e.Changes {
		if targets[i], err = m.aim(c); err != nil {
			return Reply{}, err
		}
	}
	m.assignServicePorts(targets)
	for i := range targets {
		targets[i].judge()
	}
	if err := m.makeRoom(t, ids, e.Force); err != nil {
		return Reply{}, err
	}
	return m.carryOut(t, targets), nil
}

// named is the apps of e: each once, and with the new ones not too many.
func (m *Machine) named(e Edit) ([]string, error) {
	ids, seen, all := make([]string, len(e.Changes)), map[string]bool{}, len(m.apps)
	for i, c := range e.Changes {
		if seen[c.App] {
			var bad definition.InvalidError
			bad.Add("/id", "app %s is there twice", c.App)
			return nil, bad.OrNil()
		}
		ids[i], seen[c.App] = c.App, true
		if m.apps[c.App] != nil {
			continue
		}
		if all++; all > maxApps {
			return nil, fmt.Errorf("%w apps: there are %d, at most %d are allowed; remove one first", ErrTooMany, len(m.apps), maxApps)
		}
	}
	return ids, nil
}

// existing is the app that clients see under id.
func (m *Machine) existing(id string) *app {
	if a := m.apps[id]; a != nil && !a.removed {
		return a
	}
	return nil
}

// aim works out what c leads to, without changing anything.
func (m *Machine) aim(c Change) (target, error) {
	a := m.existing(c.App)
	g := target{app: a, id: c.App, action: RestartApplication}
	switch {
	case c.Manner == Create && a != nil:
		return g, exists(c.App)
	case a == nil && (c.Manner == UpdateExisting || c.Manner == Restart || c.Manner == Remove):
		return g, AppNotFound(c.App)
	case c.Manner == Remove:
		g.action = StopApplication
		return g, nil
	case c.Manner == Restart:
		spec := *a.spec()
		g.spec = &spec
		return g, nil
	}
	return g, m.define(&g, c)
}

func exists(id string) error {
	return existsError(fmt.Sprintf("An app with id [%s] already exists.", id))
}

type existsError string

func (e existsError) Error() string { return string(e) }
func (e existsError) Unwrap() error { return ErrExists }

// define sets the target's definition from the change's body; ports and action follow.
func (m *Machine) define(g *target, c Change) error {
	base := definition.Initial(c.App)
	if g.app != nil && c.Manner != Replace {
		base = *g.app.spec()
	}
	if version, ok := c.Body["version"]; ok && g.app != nil && (c.Manner == Update || c.Manner == UpdateExisting) {
		return g.rollBack(version, c)
	}
	spec, err := c.Body.Apply(base, m.config.Role)
	if err != nil {
		return err
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encode app %s: %w", c.App, err)
	}
	if len(data) > definition.MaxBytes-1024 {
		var bad definition.InvalidError
		bad.Add("/", "the definition is larger than %d bytes; move data out of env and labels", definition.MaxBytes)
		return bad.OrNil()
	}
	g.spec, g.action = &spec, "" // until judged
	return nil
}

// judge finds the action that leads to a new definition; none if it is the old one.
func (g *target) judge() {
	switch {
	case g.action != "":
	case g.app == nil:
		g.action = StartApplication
	case !g.spec.SameConfig(*g.app.spec()):
		g.action = RestartApplication
	case g.spec.Instances != g.app.spec().Instances:
		g.action = ScaleApplication
	}
}

// rollBack aims at an earlier version, which the body names alone.
func (g *target) rollBack(version any, c Change) error {
	for key := range c.Body { // any order: one answer for all
		if key != "version" && key != "id" {
			var bad definition.InvalidError
			bad.Add("/", "The 'version' field may only be combined with the 'id' field.")
			return bad.OrNil()
		}
	}
	text, _ := version.(string)
	old := g.app.version(text)
	if old == nil {
		return VersionNotFound(c.App, text)
	}
	spec := *old
	g.spec = &spec
	g.action = RestartApplication
	if spec.SameConfig(*g.app.spec()) {
		g.action = ScaleApplication
	}
	return nil
}

// carryOut changes the apps and starts the deployment.
func (m *Machine) carryOut(t turn, targets []target) Reply {
	version := m.newVersion(t.now)
	var actions []Action
	var reply Reply
	for _, g := range targets {
		switch {
		case g.spec == nil:
			m.remove(t, g.app)
		case g.action == "":
			reply.App = *g.app.spec()
			continue
		default:
			m.adopt(t, g, version)
			reply.App, reply.Created = *g.spec, g.app == nil
		}
		actions = append(actions, Action{Kind: g.action, App: g.id})
	}
	reply.Deployment = m.deploy(t, version, actions)
	return reply
}

// adopt makes g.spec the wanted definition.
func (m *Machine) adopt(t turn, g target, version string) {
	a := m.app(g.id)
	info := definition.VersionInfo{LastScalingAt: version, LastConfigChangeAt: version}
	if g.action == ScaleApplication {
		info.LastConfigChangeAt = a.spec().VersionInfo.LastConfigChangeAt
	} else {
		a.backoff = backoff{}
	}
	g.spec.Version, g.spec.VersionInfo = version, info
	if a.removed {
		a.removed, a.versions = false, nil
	}
	a.versions = append(a.versions, g.spec)
	t.put(encode(appKey(g.id, version), record{App: g.spec}))
	t.put(encode(currentKey(g.id), record{Current: version}))
	if len(a.versions) > maxVersions {
		t.erase(appKey(g.id, a.versions[0].Version))
		a.versions = slices.Delete(a.versions, 0, 1)
	}
	m.touched[g.id] = true
}

// remove forgets the definition; the entry stays until the instances are gone.
func (m *Machine) remove(t turn, a *app) {
	t.erase(currentKey(a.id)) // first: versions without it are known to be leftovers
	for _, v := range a.versions {
		t.erase(appKey(a.id, v.Version))
	}
	if a.failure != nil {
		t.erase(failureKey(a.id))
	}
	a.versions, a.failure, a.removed, a.need = nil, nil, true, 0
	m.touched[a.id] = true
}

func (m *Machine) killTasks(t turn, k Kill) (Reply, error) {
	chosen, err := m.choose(k)
	if err != nil {
		return Reply{}, err
	}
	if k.Scale {
		return m.scaleDown(t, k, chosen)
	}
	var reply Reply
	for _, i := range chosen {
		a := m.apps[i.App]
		reply.Tasks = append(reply.Tasks, m.task(a, i))
		m.doom(t, a, i)
	}
	return reply, nil
}

// choose finds the instances that k names.
func (m *Machine) choose(k Kill) ([]*instance, error) {
	var chosen []*instance
	seen := map[*instance]bool{}
	if k.App != "" {
		a := m.existing(k.App)
		if a == nil {
			return nil, AppNotFound(k.App)
		}
		for _, i := range a.instances {
			if k.Host == "" || k.Host == "*" || strings.Contains(i.Host, k.Host) {
				chosen = append(chosen, i)
			}
		}
		return chosen, nil
	}
	for _, id := range k.Tasks {
		i := m.tasks[id]
		switch {
		case i != nil && !seen[i]:
			chosen, seen[i] = append(chosen, i), true
		case i == nil && k.MustExist:
			return nil, TaskNotFound(id)
		}
	}
	return chosen, nil
}

// scaleDown ends the chosen instances and wants as many less.
func (m *Machine) scaleDown(t turn, k Kill, chosen []*instance) (Reply, error) {
	var targets []target
	var ids []string
	places := map[string]int{}
	for _, i := range chosen {
		a := m.existing(i.App)
		if a == nil || i.Doomed {
			continue
		}
		at, ok := places[i.App]
		if !ok {
			spec := *a.spec()
			at = len(ids)
			places[i.App] = at
			ids = append(ids, i.App)
			targets = append(targets, target{app: a, id: i.App, spec: &spec, action: ScaleApplication})
		}
		targets[at].spec.Instances = max(0, targets[at].spec.Instances-1)
	}
	if err := m.makeRoom(t, ids, k.Force); err != nil {
		return Reply{}, err
	}
	for _, i := range chosen {
		m.doom(t, m.apps[i.App], i)
	}
	return m.carryOut(t, targets), nil
}

func (m *Machine) cancel(t turn, c Cancel) error {
	for _, d := range m.deployments {
		if d.ID == c.Deployment {
			m.endDeployment(t, d.ID)
			return nil
		}
	}
	return notFound(fmt.Sprintf("DeploymentPlan %s does not exist", c.Deployment))
}

func (m *Machine) resetDelay(r ResetDelay) error {
	a := m.existing(r.App)
	if a == nil || a.need == 0 {
		return notFound(fmt.Sprintf("Application %s not found in tasks queue.", r.App))
	}
	a.backoff = backoff{}
	return nil
}
