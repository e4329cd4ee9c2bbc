package sim_test

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-project/gantry/kernel/sim"
)

// length is that of the faults of a seed in these tests: much happens in eight minutes.
const length = 8 * time.Minute

// TestSeeds plays the seeds that once found something, then 300 others.
func TestSeeds(t *testing.T) {
	t.Run("once failed", func(t *testing.T) {
		for _, cfg := range remembered(t) {
			t.Run(fmt.Sprint(cfg.Seed), func(t *testing.T) {
				t.Parallel()
				if _, err := sim.Run(cfg); err != nil {
					t.Error(err)
				}
			})
		}
	})
	seeds := uint64(300)
	if testing.Short() {
		seeds = 30
	}
	var tasks atomic.Int64
	t.Run("others", func(t *testing.T) {
		for seed := range seeds {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				r, err := sim.Run(sim.Config{Seed: seed, Length: length})
				tasks.Add(int64(r.Tasks))
				if err != nil {
					t.Errorf("%v\ngo run ./cmd/gantry-sim -seed %d -hours %.4f -trace", err, seed, length.Hours())
				}
			})
		}
	})
	if ran := tasks.Load(); ran < int64(10*seeds) {
		t.Errorf("%d tasks ran in %d seeds: the simulation is not what it was", ran, seeds)
	}
}

// remembered reads testdata/seeds: a seed, its length, and a word why.
func remembered(t *testing.T) []sim.Config {
	file, err := os.Open("testdata/seeds")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var list []sim.Config
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var seed uint64
		var lasts string
		if _, err := fmt.Sscan(line, &seed, &lasts); err != nil {
			t.Fatalf("testdata/seeds: %q: %v", line, err)
		}
		length, err := time.ParseDuration(lasts)
		if err != nil {
			t.Fatalf("testdata/seeds: %q: %v", line, err)
		}
		list = append(list, sim.Config{Seed: seed, Length: length})
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// TestSameSeedSameTrace is what makes a failing seed worth anything.
func TestSameSeedSameTrace(t *testing.T) {
	hashes := map[uint64]uint64{}
	for seed := range uint64(6) {
		once, err := sim.Run(sim.Config{Seed: seed, Length: length})
		if err != nil {
			t.Fatal(err)
		}
		again, err := sim.Run(sim.Config{Seed: seed, Length: length, Trace: new(strings.Builder)})
		if err != nil {
			t.Fatal(err)
		}
		if once != again {
			t.Errorf("seed %d: %+v, and again %+v", seed, once, again)
		}
		if other, seen := hashes[once.Hash]; seen {
			t.Errorf("seeds %d and %d have the same trace", seed, other)
		}
		hashes[once.Hash] = seed
	}
}

// BenchmarkSeed is eight minutes of faults and what follows.
func BenchmarkSeed(b *testing.B) {
	for i := range b.N {
		if _, err := sim.Run(sim.Config{Seed: uint64(i), Length: length}); err != nil {
			b.Fatal(err)
		}
	}
}
