// Package impure does everything that a pure package must not: it shows that the test of purity finds it.
package impure

import (
	"maps"
	"os"
	"slices"
	"time"
)

// Do does it.
func Do(m map[string]int) (n int) {
	if _, err := os.Getwd(); err == nil {
		n = time.Now().Second()
	}
	c := make(chan int)
	go func() { c <- n }()
	select {
	case n = <-c:
	}
	for range m {
		n++
	}
	for range m { // any order: only how many there are
		n++
	}
	for range maps.Values(m) {
		n++
	}
	return n + len(slices.Sorted(maps.Keys(m)))
}
