// Package etcd is a store in etcd, for several processes of which one writes: it is in office
// until another one is.
//
//	c, err := etcd.Dial(etcd.Config{Endpoints: []string{"127.0.0.1:2379"}, Prefix: "/gantry/"})
//	s, err := c.Lead(ctx, announcement)   // waits until this process is elected
//	select {
//	case <-s.Lost(): // another one may be, and s refuses with store.ErrDeposed
//	}
//
// Who is elected is said by a [Ballot]: a lease here, the raft leader with an embedded member
// (package member). It need not be right: whoever takes office replaces the key "office", on
// whose exact value every read and write of a store depends. So two may believe that they lead,
// and one can write.
//
// The office also counts the revisions. A transaction that etcd was asked for and has not
// answered is asked for again, until the office says whether it was done. One that is too large
// for a request is first written to a journal, takes effect with a single write that advances
// the office, and is then carried out; the next in office completes what was interrupted.
package etcd
