package policy

import (
	"cmp"
	"maps"
	"math/big"
	"slices"
	"strings"
)

// The plain model of the order in which frameworks are served. It counts everything
// anew from the holdings, with math/big.

// places names what h is counted for: itself, the leaf of its role, and the role with
// all above it.
func places(h holder) []string {
	names := []string{h.framework + "@" + h.role, h.role + "/."}
	for path := h.role; ; {
		names = append(names, path)
		i := strings.LastIndex(path, "/")
		if i < 0 {
			return names
		}
		path = path[:i]
	}
}

// shareOf is the dominant share of everybody who is counted for name.
func (k *kernel) shareOf(name string) *big.Rat {
	used, total := map[string]int64{}, map[string]int64{}
	for id, a := range k.agents {
		for _, r := range a.Total {
			if !r.Shared {
				total[r.Name] += r.Milli
			}
		}
		for h, b := range k.held[id] {
			for _, r := range b {
				if !r.shared && slices.Contains(places(h), name) {
					used[r.name] += r.milli
				}
			}
		}
	}
	largest := new(big.Rat)
	for n, u := range used {
		if total[n] <= 0 || u <= 0 {
			continue
		}
		if s := big.NewRat(u, total[n]); s.Cmp(largest) > 0 {
			largest = s
		}
	}
	return largest
}

// competitor is one at a level of the tree: a role, a leaf or a framework of it.
type competitor struct {
	name   string
	share  *big.Rat // divided by its weight
	turn   uint64
	inside []holder
}

// order is who stands in line, the first first.
func (k *kernel) order() []holder {
	var all []holder
	for id, f := range k.frameworks {
		for _, role := range f.Roles {
			if h := (holder{id, role}); k.inLine(h) {
				all = append(all, h)
			}
		}
	}
	return k.level(all, 0)
}

// level orders holders whose roles have the same first depth components.
func (k *kernel) level(all []holder, depth int) []holder {
	children := map[string]*competitor{}
	for _, h := range all {
		name := h.role + "/."
		if path := strings.Split(h.role, "/"); len(path) > depth {
			name = strings.Join(path[:depth+1], "/")
		}
		if children[name] == nil {
			children[name] = &competitor{name: name, turn: k.turns[name], share: k.shareOf(name)}
			if w := k.weights[name]; w > 0 {
				children[name].share.Mul(children[name].share, big.NewRat(1000, w))
			}
		}
		children[name].inside = append(children[name].inside, h)
	}
	var ordered []holder
	for _, c := range sortedCompetitors(children) {
		if strings.HasSuffix(c.name, "/.") {
			ordered = append(ordered, k.frameworksOf(c.inside)...)
		} else {
			ordered = append(ordered, k.level(c.inside, depth+1)...)
		}
	}
	return ordered
}

// frameworksOf orders the holders of one role.
func (k *kernel) frameworksOf(role []holder) []holder {
	children := map[string]*competitor{}
	for _, h := range role {
		name := h.framework + "@" + h.role
		children[name] = &competitor{name: name, turn: k.turns[name], share: k.shareOf(name), inside: []holder{h}}
	}
	var ordered []holder
	for _, c := range sortedCompetitors(children) {
		ordered = append(ordered, c.inside...)
	}
	return ordered
}

func sortedCompetitors(all map[string]*competitor) []*competitor {
	return slices.SortedFunc(maps.Values(all), func(a, b *competitor) int {
		return cmp.Or(a.share.Cmp(b.share), cmp.Compare(a.turn, b.turn), cmp.Compare(a.name, b.name))
	})
}

// exists says whether h is subscribed or holds anything.
func (k *kernel) exists(h holder) bool {
	if f := k.frameworks[h.framework]; f != nil && slices.Contains(f.Roles, h.role) {
		return true
	}
	for _, byHolder := range k.held {
		if len(byHolder[h]) > 0 {
			return true
		}
	}
	return false
}

// forgetGone forgets the turns of what no longer exists: subscriptions, and roles that
// nobody is in or below and that have no weight.
func (k *kernel) forgetGone() {
	alive := map[string]bool{}
	for role, w := range k.weights {
		if w > 0 {
			for _, name := range places(holder{"", role})[1:] {
				alive[name] = true
			}
		}
	}
	for id := range k.frameworks {
		k.keep(alive, id)
	}
	for _, byHolder := range k.held {
		for h := range byHolder {
			k.keep(alive, h.framework)
		}
	}
	maps.DeleteFunc(k.turns, func(name string, _ uint64) bool {
		leaf, ok := strings.CutSuffix(name, "/.")
		return !alive[name] && !(ok && alive[leaf]) // a leaf lives as long as its role
	})
}

func (k *kernel) keep(alive map[string]bool, framework string) {
	for _, role := range testRoles {
		if h := (holder{framework, role}); k.exists(h) {
			for _, name := range places(h) {
				alive[name] = true
			}
		}
	}
}
