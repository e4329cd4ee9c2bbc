package rest

import (
	"net/http"
	"strings"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/marathon/apps"
	"github.com/gantry-project/gantry/plugins/framework/marathon/definition"
)

// embedded reads the embed parameters; unknown ones are passed over.
func embedded(r *http.Request) embed {
	var e embed
	for _, value := range r.URL.Query()["embed"] {
		for _, prefix := range []string{"group.apps.", "apps.", "app."} {
			value = strings.TrimPrefix(value, prefix)
		}
		switch value {
		case "tasks":
			e.tasks = true
		case "lastTaskFailure":
			e.lastTaskFailure = true
		case "failures":
			e.tasks, e.lastTaskFailure = true, true
		}
	}
	return e
}

func (s *server) listApps(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	keep := []func(*apps.Info) bool{}
	if cmd, ok := query["cmd"]; ok {
		keep = append(keep, func(i *apps.Info) bool { return i.Cmd != "" && holds(i.Cmd, cmd[0]) })
	}
	if id, ok := query["id"]; ok {
		keep = append(keep, func(i *apps.Info) bool { return holds(i.ID, id[0]) })
	}
	if label, ok := query["label"]; ok {
		selects, err := parseSelector(label[0])
		if err != nil {
			return err
		}
		keep = append(keep, func(i *apps.Info) bool { return selects(i.Labels) })
	}
	list, err := s.infos(r, embedded(r), keep...)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"apps": list})
}

func holds(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

// infos are the apps that every one of keep wants.
func (s *server) infos(r *http.Request, e embed, keep ...func(*apps.Info) bool) ([]infoShape, error) {
	var all []apps.Info
	var role string
	err := s.service.View(r.Context(), func(m *apps.Machine, _ time.Time) { all, role = m.Apps(), m.Role() })
	list := []infoShape{}
next:
	for i := range all {
		for _, wants := range keep {
			if !wants(&all[i]) {
				continue next
			}
		}
		list = append(list, shapeInfo(all[i], role, e))
	}
	return list, err
}

func (s *server) createApp(w http.ResponseWriter, r *http.Request) error {
	data, err := body(r)
	if err != nil {
		return err
	}
	patch, err := definition.ParsePatch(data)
	if err != nil {
		return err
	}
	id, err := patch.ID()
	if err != nil {
		return err
	}
	reply, err := s.edit(r, false, apps.Change{App: id, Manner: apps.Create, Body: patch})
	if err != nil {
		return err
	}
	role, err := s.role(r)
	if err != nil {
		return err
	}
	shape := shapeInfo(apps.Info{App: reply.App, Deployments: []string{reply.Deployment.ID}}, role, embed{})
	announce(w, reply)
	w.Header().Set("Location", id)
	return writeJSON(w, http.StatusCreated, shape)
}

func (s *server) role(r *http.Request) (role string, err error) {
	err = s.service.View(r.Context(), func(m *apps.Machine, _ time.Time) { role = m.Role() })
	return role, err
}

// edit asks for changes; force is what the parameter means when it is not there.
func (s *server) edit(r *http.Request, force bool, changes ...apps.Change) (apps.Reply, error) {
	return s.service.Do(r.Context(), apps.Edit{Changes: changes, Force: flag(r, "force", force)})
}

// announce names the deployment in a header.
func announce(w http.ResponseWriter, reply apps.Reply) {
	w.Header().Set("Marathon-Deployment-Id", reply.Deployment.ID)
}

func writeResult(w http.ResponseWriter, status int, reply apps.Reply) error {
	announce(w, reply)
	return writeJSON(w, status, resultShape{Version: reply.Deployment.Version, DeploymentID: reply.Deployment.ID})
}

func (s *server) putApps(manner apps.Manner) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		manner := manner
		if manner == apps.Update && !flag(r, "partialUpdate", true) {
			manner = apps.Replace
		}
		data, err := body(r)
		if err != nil {
			return err
		}
		patches, err := definition.ParsePatches(data)
		if err != nil {
			return err
		}
		changes := make([]apps.Change, len(patches))
		for i, p := range patches {
			id, err := p.ID()
			if err != nil {
				return err
			}
			changes[i] = apps.Change{App: id, Manner: manner, Body: p}
		}
		reply, err := s.edit(r, false, changes...)
		if err != nil {
			return err
		}
		return writeResult(w, http.StatusOK, reply)
	}
}

func (s *server) showApp(id string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		if group, ok := strings.CutSuffix(id, "/*"); ok {
			return s.showGroup(w, r, group)
		}
		info, role, err := s.find(r, id)
		if err != nil {
			return err
		}
		shape := shapeInfo(info, role, embed{tasks: true, lastTaskFailure: true})
		return writeJSON(w, http.StatusOK, map[string]any{"app": shape})
	}
}

// find is one app.
func (s *server) find(r *http.Request, id string) (info apps.Info, role string, err error) {
	found := false
	err = s.service.View(r.Context(), func(m *apps.Machine, _ time.Time) {
		info, found = m.App(id)
		role = m.Role()
	})
	if err == nil && !found {
		err = apps.AppNotFound(id)
	}
	return info, role, err
}

// showGroup is every app below a group.
func (s *server) showGroup(w http.ResponseWriter, r *http.Request, group string) error {
	e := embed{tasks: true, lastTaskFailure: true}
	list, err := s.infos(r, e, func(i *apps.Info) bool { return strings.HasPrefix(i.ID, group+"/") })
	if err != nil {
		return err
	}
	if len(list) == 0 && group != "" {
		return &statusError{http.StatusNotFound, "Group '" + group + "' does not exist"}
	}
	return writeJSON(w, http.StatusOK, map[string]any{"*": list})
}

func (s *server) putApp(id string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		manner := apps.Update
		if !flag(r, "partialUpdate", true) {
			manner = apps.Replace
		}
		return s.changeApp(w, r, id, manner)
	}
}

func (s *server) patchApp(id string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error { return s.changeApp(w, r, id, apps.UpdateExisting) }
}

func (s *server) changeApp(w http.ResponseWriter, r *http.Request, id string, manner apps.Manner) error {
	data, err := body(r)
	if err != nil {
		return err
	}
	patch, err := definition.ParsePatch(data)
	if err != nil {
		return err
	}
	reply, err := s.edit(r, false, apps.Change{App: id, Manner: manner, Body: patch})
	if err != nil {
		return err
	}
	status := http.StatusOK
	if reply.Created {
		status = http.StatusCreated
		w.Header().Set("Location", id)
	}
	return writeResult(w, status, reply)
}

func (s *server) deleteApp(id string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		reply, err := s.edit(r, true, apps.Change{App: id, Manner: apps.Remove})
		if err != nil {
			return err
		}
		return writeResult(w, http.StatusOK, reply)
	}
}

func (s *server) restart(id string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		reply, err := s.edit(r, false, apps.Change{App: id, Manner: apps.Restart})
		if err != nil {
			return err
		}
		return writeResult(w, http.StatusOK, reply)
	}
}

func (s *server) versions(id string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		list, _, err := s.history(r, id)
		if err != nil {
			return err
		}
		versions := make([]string, len(list))
		for i, a := range list {
			versions[len(list)-1-i] = a.Version // newest first
		}
		return writeJSON(w, http.StatusOK, map[string]any{"versions": versions})
	}
}

func (s *server) version(id, version string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		list, role, err := s.history(r, id)
		if err != nil {
			return err
		}
		for _, a := range list {
			if a.Version == version {
				return writeJSON(w, http.StatusOK, shapeApp(a, role))
			}
		}
		return apps.VersionNotFound(id, version)
	}
}

func (s *server) history(r *http.Request, id string) (list []definition.App, role string, err error) {
	found := false
	err = s.service.View(r.Context(), func(m *apps.Machine, _ time.Time) {
		list, found = m.Versions(id)
		role = m.Role()
	})
	if err == nil && !found {
		err = apps.AppNotFound(id)
	}
	return list, role, err
}
