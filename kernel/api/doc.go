// Package api is the HTTP surface of a master and of an agent: the v1 scheduler and
// operator APIs as Mesos clients speak them, with the statuses and messages that they
// know, and our own few endpoints below /gantry/v1/.
//
//	l, err := api.Listen("127.0.0.1:5050", false)
//	h := api.NewMaster(api.MasterConfig{Scheduler: m, Operator: m, Console: m, Readiness: m, Tracer: m, Version: v})
//	srv := api.NewServer(api.Secure(h, api.SecureConfig{}))
//	err = srv.Serve(l)
//
// What stands behind the endpoints is declared here as small interfaces; this package
// decides nothing about frameworks and tasks. A server that stops must end its streams
// (Stream.Events) first: Shutdown waits for them.
package api
