package apps

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// TestDamagedRecords: whatever becomes of a record, a machine refuses it by name, or goes on with what it says, and is
// never wrong about itself.
func TestDamagedRecords(t *testing.T) {
	c := &cluster{scene: newScene(t), rand: rand.New(rand.NewPCG(4, 1)), bad: true, tasks: map[string]mesos.TaskState{}}
	c.feed(Start{})
	kinds := map[string]bool{}
	for range 400 {
		c.disturb()
		for key := range c.store {
			kinds[kindOf(key)] = true
		}
		if len(kinds) == 6 && len(c.m.deployments) > 0 && len(c.m.tasks) > 2 {
			break
		}
	}
	if len(kinds) != 6 || len(c.m.deployments) == 0 {
		t.Fatalf("there are records of %v only", kinds)
	}
	var records []Write
	for _, key := range sortedKeys(c.store) {
		records = append(records, Write{Key: key, Value: c.store[key]})
	}
	refused, taken := 0, 0
	try := func(i int, value []byte) {
		damaged := slices.Clone(records)
		damaged[i].Value = value
		if liveOn(t, c.scene, damaged, records[i].Key) {
			taken++
		} else {
			refused++
		}
	}
	for i, r := range records {
		for at := range r.Value {
			for bit := range 8 {
				flipped := bytes.Clone(r.Value)
				flipped[at] ^= 1 << bit
				try(i, flipped)
			}
			if liveOn(t, c.scene, replaced(records, i, r.Value[:at]), r.Key) {
				t.Errorf("%s is cut off after %d bytes, and nobody minds", r.Key, at)
			}
		}
		try(i, records[(i+1)%len(records)].Value)
		newer := bytes.Replace(r.Value, []byte(`"schema":1`), []byte(`"schema":2`), 1)
		if liveOn(t, c.scene, replaced(records, i, newer), r.Key) {
			t.Errorf("%s is of a newer program, and taken", r.Key)
		}
	}
	t.Logf("%d records: %d damages were refused, %d could be meant", len(records), refused, taken)
}

// TestLostIncarnation: a machine whose count of incarnations is lost gives no id of a living task out again.
func TestLostIncarnation(t *testing.T) {
	s := newScene(t)
	for _, do := range []string{"start", "subscribed", `create /a {"cmd":"serve","cpus":0.1,"mem":1,"instances":1}`, "offers a,1,100"} {
		s.do(do)
	}
	delete(s.store, incarnationKey)
	s.do("reload")
	if was, is := uint64(1), s.m.incarnation; len(s.m.tasks) != 1 || is <= was {
		t.Errorf("with %d tasks, after incarnation %d comes %d", len(s.m.tasks), was, is)
	}
}

func kindOf(key string) string {
	kind, _, _ := bytes.Cut([]byte(key), []byte("/"))
	return string(kind)
}

func replaced(records []Write, i int, value []byte) []Write {
	damaged := slices.Clone(records)
	damaged[i].Value = value
	return damaged
}

// liveOn makes a machine of records, and has it do a little. It says whether there is one.
func liveOn(t *testing.T, s *scene, records []Write, damaged string) bool {
	t.Helper()
	m, err := New(s.m.config, records)
	var record *RecordError
	switch {
	case err != nil && !errors.As(err, &record):
		t.Fatalf("%s is damaged, and the refusal names no record: %v", damaged, err)
	case err != nil:
		return false
	}
	after := &scene{t: t, m: m, store: map[string][]byte{}, now: s.now, start: s.start}
	for _, do := range []string{"start", "subscribed", "offers a,100,1000", "tick"} {
		after.do(do)
	}
	m.Apps()
	m.Queue(s.now)
	m.Deployments()
	return true
}
