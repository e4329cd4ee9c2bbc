package agentd

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

func TestMetrics(t *testing.T) {
	rest := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	failing := error(nil)
	h := withMetrics(rest, func(context.Context) ([]*mesos.Metric, error) {
		return []*mesos.Metric{{Name: proto.String("process/goroutines"), Value: proto.Float64(7)}}, failing
	})
	ask := func(method, path string) *httptest.ResponseRecorder {
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, httptest.NewRequest(method, path, nil))
		return answer
	}
	var got map[string]float64
	answer := ask("GET", "/metrics/snapshot?timeout=1secs")
	if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil || got["process/goroutines"] != 7 || len(got) != 1 {
		t.Errorf("the metrics are %q, %v", answer.Body, err)
	}
	for path, want := range map[string]int{"/metrics/snapshot/": http.StatusTeapot, "/": http.StatusTeapot} {
		if answer := ask("GET", path); answer.Code != want {
			t.Errorf("GET %s: %d %s, want %d", path, answer.Code, answer.Body, want)
		}
	}
	if answer := ask("POST", "/metrics/snapshot"); answer.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d %s", answer.Code, answer.Body)
	}
	failing = errors.New("the agent is stopping")
	if answer := ask("GET", "/metrics/snapshot"); answer.Code != http.StatusServiceUnavailable {
		t.Errorf("an agent that ends: %d %s", answer.Code, answer.Body)
	}
}
