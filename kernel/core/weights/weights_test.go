package weights

import (
	"fmt"
	"strings"
	"testing"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

func TestConcern(t *testing.T) {
	w := Weights{"eng": 2000, "ops/night": 500}
	for role, want := range map[string]bool{
		"eng": true, "eng/web": true, "eng/web/blue": true, "engine": false, "en": false,
		"ops": false, "ops/night": true, "ops/nights": false, "*": false,
	} {
		if got := w.Concern([]string{"other", role}); got != want {
			t.Errorf("%s: %t", role, got)
		}
	}
	if w.Concern(nil) {
		t.Error("no role concerns")
	}
}

func TestChanged(t *testing.T) {
	info := func(role string, weight float64) *mesos.WeightInfo {
		return &mesos.WeightInfo{Role: &role, Weight: &weight}
	}
	w := Weights{"a": 2000, "b": 1000}
	changed, err := w.Changed([]*mesos.WeightInfo{info("a", 2), info("b", 1), info("b", 3), info("c", 0.5)})
	if err != nil || fmt.Sprint(changed) != "map[b:3000 c:500]" || len(w) != 2 {
		t.Errorf("%v, %v", changed, err)
	}
	if _, err := w.Changed([]*mesos.WeightInfo{info("c", 1), info("c", -1)}); err == nil || !strings.HasPrefix(err.Error(), "Failed to validate update weights request: ") {
		t.Errorf("a negative weight: %v", err)
	}
	var many []*mesos.WeightInfo
	for i := range most {
		many = append(many, info(fmt.Sprint("r", i), 2))
	}
	if _, err := w.Changed(many); err == nil {
		t.Error("more weights than are kept")
	}
	if _, err := w.Changed(many[2:]); err != nil {
		t.Error(err)
	}
}
