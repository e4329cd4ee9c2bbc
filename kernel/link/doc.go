// Package link carries the conversation of a master and an agent: one stream an agent,
// dialled by the agent, over gRPC, or in memory for tests and simulation.
//
// The master's side:
//
//	server := link.NewServer(link.ServerConfig{Check: check, Serve: serve, Log: log})
//	go server.Serve(listener)                    // serve(ctx, session) runs for every agent
//
// The agent's side asks one of its masters where the link is, and dials that:
//
//	conn, err := link.Dial(ctx, link.DialConfig{Masters: []string{"127.0.0.1:5050"}, Token: token})
//	err = conn.Send(hello)
//	msg, err := conn.Recv()
//
// On both, Send queues and never waits: an end that does not read is disconnected when
// its queue is full, and learns all it missed from the next Hello.
package link
