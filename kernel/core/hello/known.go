package hello

import (
	"fmt"

	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/rules"
)

// Known is what a master remembers of an agent, to know it again by its next Hello.
type Known struct {
	// Incarnation and Stream are those of the latest Hello; Confirmed is the last
	// incarnation that said anything after its welcome, and so has it on record.
	Incarnation, Stream, Confirmed uint64
	// Home and Boot are where the agent lives, until it has confirmed that it knows its id.
	Home, Boot string
}

// ForGood is a refusal that dialling again won't change.
type ForGood string

// Error is the reason, in a sentence.
func (f ForGood) Error() string { return string(f) }

// Expects says whether a Hello without an id may be the agent's, whose welcome was lost: it
// comes from its home, in the same boot of its host. An earlier start than the last is that
// of another agent, which was given the home since.
func (k *Known) Expects(h *linkpb.Hello) bool {
	return k.Confirmed == 0 && k.Home != "" && k.Boot != "" && k.Home == h.Home && k.Boot == h.BootId && k.Incarnation <= h.Incarnation
}

// Check says whether a Hello may be that of the agent: not if its checkpoint is older than
// what the agent had, or if a later one of the agent has come before it.
func (k *Known) Check(h *linkpb.Hello) error {
	aid := h.GetInfo().GetId().GetValue()
	switch {
	case h.Registered < k.Confirmed:
		return ForGood(fmt.Sprintf("the checkpoint of agent %s at %q is older than the one that it last registered with "+
			"(of start %d, and this is of start %d): restore the newest, or move it away to join as a new agent",
			aid, h.Home, k.Confirmed, h.Registered))
	case h.Incarnation < k.Incarnation, h.Incarnation == k.Incarnation && h.Stream < k.Stream:
		if aid == "" {
			return fmt.Errorf("the agent at %q has connected anew since", h.Home)
		}
		return fmt.Errorf("agent %s has connected anew since", aid)
	}
	return nil
}

// Met remembers a Hello that was taken.
func (k *Known) Met(h *linkpb.Hello) {
	k.Incarnation, k.Stream = h.Incarnation, h.Stream
	if k.Confirmed == 0 {
		k.Home, k.Boot = h.Home, h.BootId
	}
}

// Confirm notes that the agent has its welcome on record, and says whether that is news.
func (k *Known) Confirm() bool {
	if k.Confirmed == k.Incarnation {
		return false
	}
	k.Confirmed, k.Home, k.Boot = k.Incarnation, "", ""
	return true
}

// checkID says what is wrong with the id that a Hello carries, if any.
func checkID(h *linkpb.Hello) error {
	if h.GetInfo().GetId() == nil {
		return nil
	}
	if err := rules.ID(h.Info.Id.GetValue()); err != nil {
		return fmt.Errorf("agent id: %w", err)
	}
	return nil
}
