// Package plugin is what every Gantry plugin written in Go shares: the handshake by
// which the host knows it, and a server that speaks go-plugin's protocol. Authors use
// the package of their contract (sdk/allocator, sdk/framework); those call
//
//	plugin.Serve(func(s *grpc.Server) { allocatorpb.RegisterAllocatorServer(s, srv) })
//
// A plugin in another language prints the same handshake line and serves the same gRPC
// services; nothing here is needed for that but the three values of Handshake.
package plugin

import (
	"context"
	"fmt"
	"os"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

// Name is the one entry of the plugin set; the contract, not the name, says what is served.
const Name = "gantry"

// MaxMessageBytes bounds one gRPC message in either direction: a snapshot of some
// 100,000 agents fits.
const MaxMessageBytes = 64 << 20

// Handshake is what host and plugin must agree on. The cookie is no secret: it only
// tells a person who starts the binary by hand that this is not how it is meant.
func Handshake() goplugin.HandshakeConfig {
	return goplugin.HandshakeConfig{
		ProtocolVersion:  1,
		MagicCookieKey:   "GANTRY_PLUGIN",
		MagicCookieValue: "one-cluster-many-schedulers",
	}
}

// Set is the plugin set of protocol version 1, for both sides; register is nil on the
// host's side, which uses the connection itself.
func Set(register func(*grpc.Server)) goplugin.PluginSet {
	return goplugin.PluginSet{Name: contract{register: register}}
}

// Serve prints the handshake, serves what register adds, and ends the process when the
// host says so. Standard output belongs to the handshake; log to standard error.
func Serve(register func(*grpc.Server)) {
	handshake := Handshake()
	if os.Getenv(handshake.MagicCookieKey) != handshake.MagicCookieValue {
		fmt.Fprintln(os.Stderr, "This is a plugin of Gantry: name it in plugins.toml and gantry starts it; it does nothing by hand.")
		os.Exit(2)
	}
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: handshake,
		Plugins:         Set(register),
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options, grpc.MaxRecvMsgSize(MaxMessageBytes))...)
		},
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr}),
	})
	os.Exit(0)
}

// contract adapts a register function to go-plugin.
type contract struct {
	goplugin.NetRPCUnsupportedPlugin
	register func(*grpc.Server)
}

func (c contract) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	c.register(s)
	return nil
}

func (c contract) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}
