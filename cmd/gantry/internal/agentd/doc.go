// Package agentd is `gantry agent`: it joins the agent's machine and shell (kernel/node,
// kernel/run) with a store, the link to the master, the keeper and the isolators.
//
//	root.AddCommand(agentd.Command())
//
// The work dir holds
//
//	agent/checkpoint.db    what the agent has promised
//	keeper/                the keeper's socket, records and log
//	containers/ID/         what each container that lives has, as links
//	roots/...              the root filesystems, which containers share
//	slaves/...             the sandboxes, for as long as nobody removes them
package agentd
