package main

import (
	"strings"
	"testing"
)

func TestPlaysSeeds(t *testing.T) {
	var out strings.Builder
	o := options{first: 3, seeds: 4, hours: 0.02, parallel: 2}
	if failed := o.run(&out); failed != 0 {
		t.Fatalf("%d failed:\n%s", failed, &out)
	}
	if !strings.HasPrefix(out.String(), "4 seeds, 0 failed; ") {
		t.Errorf("it says %q", &out)
	}
}

// A trace ends with its hash, and is the same whenever it is printed.
func TestTraces(t *testing.T) {
	trace := func() string {
		var out strings.Builder
		if failed := (options{first: 5, seeds: 1, hours: 0.02, trace: true}).run(&out); failed != 0 {
			t.Fatalf("it failed:\n%s", &out)
		}
		return out.String()
	}
	once := trace()
	if !strings.Contains(once, "master starts") || !strings.Contains(once, "\nseed 5: ") {
		t.Errorf("this is no trace of seed 5: %.400s", once)
	}
	if again := trace(); once != again {
		t.Error("the same seed has another trace")
	}
}

func TestKeepsTheTail(t *testing.T) {
	last := &tail{lines: make([]string, 0, 2)}
	for _, line := range []string{"a\n", "b\n", "c\n"} {
		if _, err := last.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(last.lines, ""); got != "b\nc\n" {
		t.Errorf("kept %q", got)
	}
	none := &tail{}
	if _, err := none.Write([]byte("a\n")); err != nil || len(none.lines) != 0 {
		t.Errorf("kept %q, %v", none.lines, err)
	}
}
