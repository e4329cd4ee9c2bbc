// Package client is the command line's side of a running cluster: the v1 operator and scheduler calls in
// protobuf, the master's own endpoints below /gantry/v1/, and the Marathon REST API.
//
//	c := client.New("127.0.0.1:5050", "127.0.0.1:8080")
//	tasks, err := c.Tasks(ctx)
//	if errors.Is(err, client.ErrUnreachable) { ... }
//
// Every answer is bounded in size, and every call but a subscription in time.
package client
