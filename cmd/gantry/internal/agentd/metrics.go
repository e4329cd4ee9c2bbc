package agentd

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/gantry-project/gantry/kernel/api/flat"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

const measureWithin = 10 * time.Second

// withMetrics serves the numbers of an agent at /metrics/snapshot, and all else by rest.
func withMetrics(rest http.Handler, measure func(context.Context) ([]*mesos.Metric, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics/snapshot" {
			rest.ServeHTTP(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "Metrics are read with GET.", http.StatusMethodNotAllowed)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), measureWithin)
		defer cancel()
		all, err := measure(ctx)
		if err != nil {
			http.Error(w, "The agent can't be measured: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(flat.Metrics(all)) // a client that is gone needs no answer
	})
}
