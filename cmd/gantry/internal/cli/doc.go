// Package cli is gantry's command line: what a person types, and how the answers look. It knows a cluster only by
// its HTTP addresses, and holds no logic of the cluster itself.
//
//	os.Exit(cli.Main(os.Args[1:], cli.Daemons{Up: up.Command(parts), Master: masterd.Command(), Agent: agentd.Command()}))
//
// A command writes one view, a plain struct: as an aligned table for a person, or with --json as it is. What a task
// or a framework chose (names, output) reaches a terminal with its control characters escaped.
package cli
