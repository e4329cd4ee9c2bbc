package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Config is the plugin's table of plugins.toml.
type Config struct {
	// MinAllocatable is the least that is worth offering: alternatives parted by |,
	// each a list of name:amount parted by ;. Empty means the default,
	// cpus:0.01|mem:32; "any" means that any scrap is offered.
	MinAllocatable string `json:"min_allocatable"`
	// Exclude names scalars that do not count for fairness.
	Exclude []string `json:"exclude"`
	// Region is the cluster's own: agents whose fault domain names another one are
	// offered to region-aware frameworks only. Empty means that all regions are alike.
	Region string `json:"region"`
}

// DefaultMinAllocatable is what an empty Config.MinAllocatable means.
const DefaultMinAllocatable = "cpus:0.01|mem:32"

// ParseConfig decodes the table strictly; nothing at all is the default configuration.
func ParseConfig(text []byte) (Config, error) {
	var c Config
	if len(bytes.TrimSpace(text)) == 0 {
		return c, nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("read the drf table (its keys are min_allocatable, exclude and region): %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return c, errors.New("read the drf table: something follows it")
	}
	_, err := c.check()
	return c, err
}

// check says what is wrong with c, or returns its MinAllocatable as it is applied.
func (c Config) check() (least, error) {
	for i, name := range c.Exclude {
		if strings.TrimSpace(name) != name || name == "" {
			return nil, fmt.Errorf("exclude has %q: write names of resources, such as [\"gpus\"]", name)
		}
		if slices.Contains(c.Exclude[:i], name) {
			return nil, fmt.Errorf("exclude has %q twice: write each name once", name)
		}
	}
	if strings.TrimSpace(c.Region) != c.Region {
		return nil, fmt.Errorf("region is %q: write the name as agents have it, without spaces around it", c.Region)
	}
	return parseLeast(c.MinAllocatable)
}

// least is the alternatives of MinAllocatable: one must be there in full.
type least [][]quantity

// maxAmount bounds a quantity, which is counted in thousandths.
const maxAmount = 1e12

type quantity struct {
	name  string
	milli int64
}

func parseLeast(text string) (least, error) {
	switch text {
	case "":
		text = DefaultMinAllocatable
	case "any":
		return nil, nil
	}
	var l least
	for alternative := range strings.SplitSeq(text, "|") {
		var all []quantity
		for part := range strings.SplitSeq(alternative, ";") {
			name, number, ok := strings.Cut(strings.TrimSpace(part), ":")
			value, err := strconv.ParseFloat(number, 64)
			if !ok || name == "" || err != nil || !(value >= 0 && value <= maxAmount) {
				return nil, fmt.Errorf("min_allocatable %q: %q is not name:amount, as in %s", text, part, DefaultMinAllocatable)
			}
			all = append(all, quantity{name, int64(value*1000 + 0.5)})
		}
		l = append(l, all)
	}
	return l, nil
}

// leastOf is what a framework says that it wants of an offer at least; nil if it does not.
func leastOf(f *mesos.OfferFilters) *least {
	if f.GetMinAllocatableResources() == nil {
		return nil
	}
	l := least{}
	for _, q := range f.GetMinAllocatableResources().GetQuantities() {
		var all []quantity
		for _, name := range slices.Sorted(maps.Keys(q.GetQuantities())) {
			value := min(max(q.GetQuantities()[name].GetValue(), 0), maxAmount)
			all = append(all, quantity{name, int64(value*1000 + 0.5)})
		}
		l = append(l, all)
	}
	return &l
}

func (l *least) equal(o *least) bool {
	if l == nil || o == nil {
		return l == o
	}
	return slices.EqualFunc(*l, *o, slices.Equal[[]quantity])
}

// met says whether b is worth offering.
func (l least) met(b bag) bool {
	if len(b) == 0 {
		return false
	}
	if len(l) == 0 {
		return true
	}
	return slices.ContainsFunc(l, func(all []quantity) bool {
		return !slices.ContainsFunc(all, func(q quantity) bool { return b.scalar(q.name) < q.milli })
	})
}

// scalar is the sum over all kinds of that name.
func (b bag) scalar(name string) int64 {
	var sum int64
	for _, a := range b {
		if a.name == name {
			sum += a.milli
		}
	}
	return sum
}
