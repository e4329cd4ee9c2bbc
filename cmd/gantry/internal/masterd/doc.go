// Package masterd joins the parts of `gantry master`: store, machine, link, plugin host and HTTP API.
//
//	cmd := masterd.Command() // a cobra command; SIGTERM ends it
package masterd
