#!/bin/sh
# Regenerates the Go of every .proto in the tree (make generate). Needs protoc; the Go
# plugins come from tools.mod.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p .tools
go build -modfile=tools.mod -o .tools/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
module=github.com/gantry-project/gantry
PATH="$PWD/.tools:$PATH" protoc -I sdk/proto -I . \
	--go_out=. --go_opt=module=$module --go-grpc_out=. --go-grpc_opt=module=$module \
	$(cd sdk/proto && find mesos gantry -name '*.proto' | sort) \
	kernel/link/linkpb/link.proto kernel/keeper/keeperpb/keeper.proto kernel/core/corepb/registry.proto \
	kernel/node/nodepb/node.proto
# The JSON codec of the v1 messages.
go build -o .tools/protoc-gen-mesosjson ./sdk/proto/genjson
PATH="$PWD/.tools:$PATH" protoc -I sdk/proto --mesosjson_out=. --mesosjson_opt=module=$module \
	$(cd sdk/proto && find mesos -name '*.proto' | sort)
