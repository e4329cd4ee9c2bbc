//go:build cgo

package runc

import (
	"strings"
	"testing"
)

func TestWeightIsInProportion(t *testing.T) {
	for milli, want := range map[int64]uint64{
		-1: 0, 0: 0, 1: 1, 10: 1, 100: 10, 500: 50, 1000: 100, 64_000: 6400, 100_000: 10_000, 1_000_000: 10_000,
	} {
		if got := weight(milli); got != want {
			t.Errorf("weight(%d) = %d, want %d", milli, got, want)
		}
	}
}

func TestHostname(t *testing.T) {
	for name, want := range map[string]string{
		"": "", "box": "box", strings.Repeat("h", 63): strings.Repeat("h", 63), strings.Repeat("h", 64): strings.Repeat("h", 63),
	} {
		if got := hostname(name); got != want {
			t.Errorf("hostname(%q) = %q", name, got)
		}
	}
}
