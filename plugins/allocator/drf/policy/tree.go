package policy

import (
	"cmp"
	"slices"
	"strings"
)

// defaultWeight is in thousandths: 1.
const defaultWeight = 1000

// Queues of a node: all who stand in line, and those of them who have yet to be tried on
// the idle agents.
const (
	everybody = iota
	eagerOnes
	queues
)

// node is a place in the tree of roles: the root, a role, or a role's leaf, where its own
// frameworks stand. The leaf counts as one of the role's children.
type node struct {
	account        // of it and all below
	role    string // whole path; a leaf has its role's, the root none
	parent  *node  // nil for the root
	leaf    *node  // nil for the root and for leaves
	weight  uint64 // thousandths, positive
	named   bool   // an operator gave it a weight
	members int    // of a role: roles one below, and subscriptions of its leaf
	queues  [queues]queue
}

// queue is who stands in line at a node: subscriptions at a leaf, elsewhere those
// children whose own queue is not empty.
type queue struct {
	nodes         line[*node]
	subscriptions line[*subscription]
}

func newNode(role string, parent *node) *node {
	n := &node{role: role, parent: parent, weight: defaultWeight, account: account{share: share{0, 1}}}
	for k := range n.queues {
		n.queues[k].nodes.compare = compareNodes
		n.queues[k].subscriptions.compare = compareSubscriptions
	}
	return n
}

func (q *queue) empty() bool { return len(q.nodes.items) == 0 && len(q.subscriptions.items) == 0 }

func (q *queue) clear() {
	q.nodes.items, q.subscriptions.items = q.nodes.items[:0], q.subscriptions.items[:0]
}

func (q *queue) sort() {
	slices.SortFunc(q.nodes.items, compareNodes)
	slices.SortFunc(q.subscriptions.items, compareSubscriptions)
}

func compareNodes(a, b *node) int {
	return cmp.Or(
		compare(a.share, a.weight, b.share, b.weight),
		cmp.Compare(a.turn, b.turn),
		cmp.Compare(a.role, b.role), // a leaf's is its siblings' prefix
	)
}

// each yields who stands in line at n and below, the first first, and says whether yield
// wanted them all.
func (n *node) each(k int, yield func(*subscription) bool) bool {
	for _, s := range n.queues[k].subscriptions.items {
		if !yield(s) {
			return false
		}
	}
	for _, child := range n.queues[k].nodes.items {
		if !child.each(k, yield) {
			return false
		}
	}
	return true
}

// lift takes n and all above it out of their lines, so that their accounts may change.
func (n *node) lift(k int) {
	if n.parent == nil {
		return
	}
	n.parent.lift(k) // first: it stands in line for as long as n does
	if !n.queues[k].empty() {
		n.parent.queues[k].nodes.take(n)
	}
}

// place is the inverse of lift, also if n has become empty or is so no longer.
func (n *node) place(k int) {
	for ; n.parent != nil; n = n.parent {
		if !n.queues[k].empty() {
			n.parent.queues[k].nodes.put(n)
		}
	}
}

// holder is who resources are counted for.
type holder struct{ framework, role string }

// subscription is one framework in one role. It exists as long as the framework is
// subscribed or holds anything in the role.
type subscription struct {
	account
	holder
	leaf      *node
	least     *least     // its own; nil is the policy's
	framework *framework // nil when the framework is gone and only its holdings stay
	holdings  int        // agents on which it holds something
	revived   uint64     // moment of the last revival: refusals before it are void
	refused   bool       // some agent may remember a refusal of its
	inLine    bool       // active and not suppressed
	eager     bool       // has not yet been tried on the idle agents
}

func compareSubscriptions(a, b *subscription) int {
	return cmp.Or(
		compare(a.share, 1, b.share, 1),
		cmp.Compare(a.turn, b.turn),
		cmp.Compare(a.holder.framework, b.holder.framework),
	)
}

// stands says whether s is in queue k of its leaf.
func (s *subscription) stands(k int) bool { return s.inLine && (k == everybody || s.eager) }

// line keeps items in a strict order. Take an item out before its key changes, and put
// it back afterwards.
type line[T comparable] struct {
	items   []T
	compare func(a, b T) int
}

func (l *line[T]) put(item T) {
	i, _ := slices.BinarySearchFunc(l.items, item, l.compare)
	l.items = slices.Insert(l.items, i, item)
}

func (l *line[T]) take(item T) {
	i, found := slices.BinarySearchFunc(l.items, item, l.compare)
	if !found || l.items[i] != item {
		panic("policy: an item's key changed while it stood in line")
	}
	l.items = slices.Delete(l.items, i, i+1)
}

// change is the only way to change what places s, or a node above it, in line.
func (p *Policy) change(s *subscription, f func()) {
	if p.stale { // settle sorts everything anew
		f()
		return
	}
	for k := range queues {
		s.leaf.lift(k)
		if s.stands(k) {
			s.leaf.queues[k].subscriptions.take(s)
		}
	}
	f()
	for k := range queues {
		if s.stands(k) {
			s.leaf.queues[k].subscriptions.put(s)
		}
		s.leaf.place(k)
	}
}

// sortAnew is how many changes at once may move in lines that are sorted; with more it is
// cheaper to sort all anew.
const sortAnew = 256

// manyChange says that so many subscriptions are about to change.
func (p *Policy) manyChange(n int) { p.stale = p.stale || n > p.sortAnew }

// count charges b to s and all above it, or with a negative sign gives it back.
func (p *Policy) count(s *subscription, b bag, sign int64) {
	s.add(b, sign, p)
	for n := s.leaf; n.parent != nil; n = n.parent {
		n.add(b, sign, p)
	}
}

// settle brings shares and lines up to date after the total or a weight changed.
func (p *Policy) settle() {
	if !p.stale {
		return
	}
	p.stale = false
	reset := func(n *node) {
		n.share = n.used.dominant(p.total)
		for k := range n.queues {
			n.queues[k].clear()
		}
	}
	reset(p.root)
	for _, r := range p.roles { // any order: each role by itself
		reset(r)
		reset(r.leaf)
	}
	for _, s := range p.subscriptions { // any order: the lines are sorted below
		s.share = s.used.dominant(p.total)
		for k := range queues {
			if s.stands(k) {
				s.enlist(k)
			}
		}
	}
	for k := range queues {
		p.root.queues[k].sort()
		for _, r := range p.roles { // any order: each line by itself
			r.queues[k].sort()
			r.leaf.queues[k].sort()
		}
	}
}

// enlist appends s to the line of its leaf, and whoever has an empty line no longer to
// the line above. They are sorted later.
func (s *subscription) enlist(k int) {
	q := &s.leaf.queues[k]
	first := q.empty()
	q.subscriptions.items = append(q.subscriptions.items, s)
	for n := s.leaf; first && n.parent != nil; n = n.parent {
		q = &n.parent.queues[k]
		first = q.empty()
		q.nodes.items = append(q.nodes.items, n)
	}
}

// subscription returns h's, a new one if need be.
func (p *Policy) subscription(h holder) *subscription {
	s := p.subscriptions[h]
	if s == nil {
		r := p.role(h.role)
		s = &subscription{holder: h, leaf: r.leaf, account: account{share: share{0, 1}}}
		r.members++
		p.subscriptions[h] = s
	}
	return s
}

// prune drops s when nobody is subscribed and nothing is held.
func (p *Policy) prune(s *subscription) {
	if s.framework == nil && s.holdings == 0 && p.subscriptions[s.holder] == s {
		delete(p.subscriptions, s.holder)
		p.leave(s.leaf.parent)
	}
}

// role returns the role of that path, a new one if need be, below those that its path
// names.
func (p *Policy) role(path string) *node {
	r := p.roles[path]
	if r == nil {
		parent := p.root
		if i := strings.LastIndexByte(path, '/'); i > 0 {
			parent = p.role(path[:i])
		}
		parent.members++
		r = newNode(path, parent)
		r.leaf = newNode(path, r)
		p.roles[path] = r
	}
	return r
}

// leave takes one member from a role.
func (p *Policy) leave(r *node) {
	r.members--
	p.pruneRole(r)
}

// pruneRole drops a role that nobody is in and nobody set a weight for.
func (p *Policy) pruneRole(r *node) {
	if r.members == 0 && !r.named && p.roles[r.role] == r {
		delete(p.roles, r.role)
		p.leave(r.parent)
	}
}
