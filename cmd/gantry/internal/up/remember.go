package up

import (
	"encoding/json"
	"net"
	"os"
	"slices"
)

// listenFile has where the daemons of the last start with ephemeral ports listened. Executors that outlive a supervisor
// know their agent by no other address.
const listenFile = "listen"

// bound is what listenFile says, each HOST:PORT.
type bound struct {
	Masters []boundMaster `json:"masters"`
	Agents  []string      `json:"agents"`
}

type boundMaster struct {
	API  string `json:"api"`
	Link string `json:"link"`
}

// remember notes where the daemons listen, where the system has chosen that.
func (u *cluster) remember(b bound) error {
	if !u.ephemeral() {
		return nil
	}
	// Agents that are not started this time may be another time.
	if last := u.lastBound(); len(last.Agents) > len(b.Agents) {
		b.Agents = slices.Concat(b.Agents, last.Agents[len(b.Agents):])
	}
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return replace(u.WorkDir, listenFile, string(text)+"\n")
}

// lastBound is what remember noted last; what can't be read was nothing.
func (u *cluster) lastBound() bound {
	var last bound
	text, err := os.ReadFile(u.path(listenFile))
	if err != nil || json.Unmarshal(text, &last) != nil {
		return bound{}
	}
	return last
}

// recall replaces ephemeral ports by those of the last start that are still free.
func (u *cluster) recall(l listeners) listeners {
	if !u.ephemeral() {
		return l
	}
	last := u.lastBound()
	for i := range min(len(l.masters), len(last.Masters)) {
		at := &l.masters[i]
		at.api, at.link = again(at.api, last.Masters[i].API), again(at.link, last.Masters[i].Link)
	}
	for i := range min(len(l.agents), len(last.Agents)) {
		l.agents[i] = again(l.agents[i], last.Agents[i])
	}
	return l
}

// again is listen with the port of last if that can be had.
func again(listen, last string) string {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	_, port, err := net.SplitHostPort(last)
	if err != nil {
		return listen
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil || l.Close() != nil {
		return listen
	}
	return net.JoinHostPort(host, port)
}
