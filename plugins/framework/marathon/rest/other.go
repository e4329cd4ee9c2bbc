package rest

import (
	"io"
	"net/http"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/marathon/apps"
)

// apiVersion is the version of Marathon whose REST API this is; clients compare it.
const apiVersion = "1.11.24"

func (s *server) listDeployments(w http.ResponseWriter, r *http.Request) error {
	list := []deploymentShape{}
	err := s.service.View(r.Context(), func(m *apps.Machine, _ time.Time) {
		for _, d := range m.Deployments() {
			list = append(list, shapeDeployment(d))
		}
	})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, list)
}

// cancelDeployment unlocks the apps and leaves them as they are wanted now.
func (s *server) cancelDeployment(id string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		if !flag(r, "force", false) {
			return &statusError{http.StatusNotImplemented,
				"rolling a deployment back is not supported yet; end it with ?force=true, then PUT {\"version\": \"...\"} to each app"}
		}
		if _, err := s.service.Do(r.Context(), apps.Cancel{Deployment: id}); err != nil {
			return err
		}
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
}

func (s *server) listQueue(w http.ResponseWriter, r *http.Request) error {
	var queue []apps.Waiting
	err := s.service.View(r.Context(), func(m *apps.Machine, now time.Time) { queue = m.Queue(now) })
	if err != nil {
		return err
	}
	list := make([]queueShape, len(queue))
	for i, entry := range queue {
		list[i] = shapeWaiting(entry)
	}
	return writeJSON(w, http.StatusOK, map[string]any{"queue": list})
}

func (s *server) resetDelay(id string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		if _, err := s.service.Do(r.Context(), apps.ResetDelay{App: id}); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
}

func (s *server) status(r *http.Request) (status apps.Status, role string, err error) {
	err = s.service.View(r.Context(), func(m *apps.Machine, _ time.Time) { status, role = m.Status(), m.Role() })
	return status, role, err
}

func (s *server) info(w http.ResponseWriter, r *http.Request) error {
	status, role, err := s.status(r)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{
		"name": "marathon", "version": apiVersion, "buildref": "gantry",
		"elected": true, "leader": s.place.Address, "frameworkId": status.FrameworkID,
		"marathon_config": map[string]any{
			"checkpoint": true, "failover_timeout": int((7 * 24 * time.Hour).Seconds()), "features": []string{"task_killing"},
			"framework_name": "marathon", "ha": true, "master": s.place.Master, "mesos_role": role,
			"mesos_leader_ui_url": "http://" + s.place.Master + "/", "webui_url": "http://" + s.place.Address,
		},
		"zookeeper_config": map[string]any{}, "http_config": map[string]any{},
	})
}

func (s *server) leader(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, map[string]string{"leader": s.place.Address})
}

func (s *server) abdicate(http.ResponseWriter, *http.Request) error {
	return &statusError{http.StatusNotImplemented, "this framework runs where the leading master runs; let the master give way instead"}
}

func (s *server) ping(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "pong")
	return nil
}

func (s *server) metrics(w http.ResponseWriter, r *http.Request) error {
	status, _, err := s.status(r)
	if err != nil {
		return err
	}
	gauge := func(n int) map[string]int { return map[string]int{"value": n} }
	counter := func(n uint64) map[string]uint64 { return map[string]uint64{"count": n} }
	none := map[string]any{}
	return writeJSON(w, http.StatusOK, map[string]any{
		"version": "4.0.0",
		"gauges": map[string]any{
			"marathon.apps.active.gauge":        gauge(status.Apps),
			"marathon.deployments.active.gauge": gauge(status.Deployments),
			"marathon.instances.running.gauge":  gauge(status.Running),
			"marathon.instances.staged.gauge":   gauge(status.Staged),
		},
		"counters": map[string]any{
			"marathon.mesos.offers.incoming.counter": counter(status.Offers),
			"marathon.tasks.launched.counter":        counter(status.Launched),
			"marathon.tasks.killed.counter":          counter(status.Killed),
			"marathon.tasks.failed.counter":          counter(status.Failed),
		},
		"histograms": none, "meters": none, "timers": none,
	})
}
