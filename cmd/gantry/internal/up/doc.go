// Package up is `gantry up`: it supervises a whole cluster on one machine, one process each for the master and
// the agents, and deploys the demo application on it.
//
//	root.AddCommand(up.Command(up.Parts{CgroupName: cgroup.Name, RemoveCgroup: cgroup.Remove}))
//
// The daemons are this same executable. They say where they listen through package daemon; what the supervisor
// learns so stands in WORK/addresses.json, which every other command reads. A daemon that dies is started again on
// the addresses that it had. The end of ctx ends the agents, then the master, and then removes what is left.
//
// The folder of a cluster:
//
//	WORK/lock             held while the supervisor lives; has its process id
//	WORK/addresses.json   where the cluster answers, while it runs
//	WORK/agent.token      what agents show to the master
//	WORK/run/             what each daemon has published
//	WORK/master/, agent/  the state of the daemons; with several agents agent-1/, agent-2/ ...
//	WORK/artifacts/       files that tasks may fetch
//	WORK/logs/            what the daemons wrote, and for each the one older part
package up
