package rest

import (
	"net/http"
	"strings"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/marathon/apps"
	"github.com/gantry-project/gantry/plugins/framework/marathon/definition"
)

var errScaleAndWipe = &statusError{http.StatusBadRequest, "You cannot use scale and wipe at the same time."}

// listTasks shows the tasks of all apps, or those in the wanted states.
func (s *server) listTasks(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	states := map[string]bool{}
	for _, status := range append(query["status"], query["status[]"]...) {
		switch strings.ToLower(status) {
		case "running":
			states["TASK_RUNNING"] = true
		case "staging":
			states["TASK_STAGING"] = true
		}
	}
	tasks, err := s.tasks(r, func(*apps.Info) bool { return true })
	if err != nil {
		return err
	}
	list := []taskShape{}
	for _, t := range tasks {
		if len(states) == 0 || states[t.State] {
			list = append(list, shapeTask(t))
		}
	}
	return writeJSON(w, http.StatusOK, map[string]any{"tasks": list})
}

func (s *server) tasks(r *http.Request, wants func(*apps.Info) bool) ([]apps.Task, error) {
	var tasks []apps.Task
	err := s.service.View(r.Context(), func(m *apps.Machine, _ time.Time) {
		for _, info := range m.Apps() {
			if wants(&info) {
				tasks = append(tasks, info.Tasks...)
			}
		}
	})
	return tasks, err
}

func (s *server) appTasks(id string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		var tasks []apps.Task
		if group, ok := strings.CutSuffix(id, "/*"); ok {
			found, err := s.tasks(r, func(i *apps.Info) bool { return strings.HasPrefix(i.ID, group+"/") })
			if err != nil {
				return err
			}
			tasks = found
		} else {
			info, _, err := s.find(r, id)
			if err != nil {
				return err
			}
			tasks = info.Tasks
		}
		return writeJSON(w, http.StatusOK, map[string]any{"tasks": shapeTasks(tasks)})
	}
}

// kill asks for k with the parameters that all kills share. Nothing is kept beyond a
// task's life, so there is nothing that wipe would add.
func (s *server) kill(r *http.Request, k apps.Kill) (apps.Reply, error) {
	k.Scale, k.Force = flag(r, "scale", false), flag(r, "force", false)
	if k.Scale && flag(r, "wipe", false) {
		return apps.Reply{}, errScaleAndWipe
	}
	return s.service.Do(r.Context(), k)
}

func (s *server) deleteAppTasks(id string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		return s.killMany(w, r, apps.Kill{App: id, Host: r.URL.Query().Get("host")})
	}
}

func (s *server) killMany(w http.ResponseWriter, r *http.Request, k apps.Kill) error {
	reply, err := s.kill(r, k)
	if err != nil {
		return err
	}
	if flag(r, "scale", false) {
		return writeResult(w, http.StatusOK, reply)
	}
	return writeJSON(w, http.StatusOK, map[string]any{"tasks": shapeTasks(reply.Tasks)})
}

// deleteAppTask looks the task up by its id alone: some clients derive the app's part of
// the path from the task id, and get it wrong.
func (s *server) deleteAppTask(task string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		reply, err := s.kill(r, apps.Kill{Tasks: []string{task}, MustExist: true})
		if err != nil {
			return err
		}
		if flag(r, "scale", false) {
			return writeResult(w, http.StatusOK, reply)
		}
		return writeJSON(w, http.StatusOK, map[string]any{"task": shapeTask(reply.Tasks[0])})
	}
}

func (s *server) deleteTasks(w http.ResponseWriter, r *http.Request) error {
	data, err := body(r)
	if err != nil {
		return err
	}
	patch, err := definition.ParsePatch(data)
	if err != nil {
		return err
	}
	ids, err := patch.Strings("ids")
	if err != nil {
		return err
	}
	for _, id := range ids {
		if !strings.ContainsAny(id, "._") {
			return &statusError{http.StatusBadRequest, "Invalid task id '" + id + "'."}
		}
	}
	return s.killMany(w, r, apps.Kill{Tasks: ids})
}
