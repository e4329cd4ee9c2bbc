// Package host runs the plugins of plugins.toml: it starts each as a process of its own,
// speaks go-plugin's handshake with it, hands the conversation to whoever serves that
// contract, and starts it again when it dies.
//
//	manifest, err := host.Load("plugins.toml")
//	h, err := host.New(host.Config{Manifest: manifest, BinDir: "bin/plugins", Dir: run, ...})
//	go h.Run(ctx) // until ctx ends; no process of a plugin is left when it returns
//
// A plugin never runs in the kernel's process, and dies with it. It runs from a private
// copy of its binary that is checked before every start, in a process group and, where
// there are cgroups, a cgroup of its own, with an environment of a few named variables.
// What it writes to standard error is logged under its name, cleaned and bounded.
//
// An entry with a module has the plugin host-wasm run it, and is a plugin like any other:
// the host pins the module as it does the binary, and never looks inside.
//
// Which part of a manifest runs where is Manifest.On: allocators and frameworks beside the
// master, containerizers on every agent.
//
// The host owns the TCP listener of a plugin that serves HTTP and passes requests on to
// the plugin's unix socket, their paths as they came; while the plugin is away it
// answers 503.
package host
