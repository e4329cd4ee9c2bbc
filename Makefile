# Gantry needs Go 1.26, make and gcc; what else the build needs is installed (see deps).

# The version is that of the checkout, where there is one.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
MODULE  := github.com/gantry-project/gantry

export GOFLAGS := -buildvcs=false $(GOFLAGS)
LDFLAGS := -s -w -X $(MODULE)/cmd/gantry/internal/version.stamp=$(VERSION)
TOOL    := go tool -modfile=tools.mod

# How long make fuzz spends on each target, and arguments for make up.
FUZZTIME ?= 20s
ARGS     ?=

# Whether clang can build programs for WASI.
WASILIBC := { test -f /usr/lib/wasm32-wasi/libc.a && ls "$$(clang -print-resource-dir)"/lib/*/libclang_rt.builtins-wasm32.a >/dev/null 2>&1; }

# The kernel that test-v2 boots; it has no cgroups but those of version 2.
KERNEL := .tools/v2/vmlinuz

# The web page, built where there is a node that Vite runs on.
UI   := plugins/service/webui/ui
PAGE := plugins/service/webui/page/built/index.html
NODE := $(shell command -v npm >/dev/null && node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 22 || a == 22 && b >= 12 || a == 20 && b >= 19 ? 0 : 1)' && echo yes)

.PHONY: build up test test-v2 test-all torture sim check fuzz bench generate protos deps test-deps clean

# bin/gantry, bin/gantry-keeper (static, with cgo), bin/plugins/KIND-NAME and bin/examples/NAME.
build: deps $(if $(NODE),$(PAGE))
	@test -f $(PAGE) || echo "without npm and node 20.19, 22.12 or newer there is no web page, only one that says so"
	@mkdir -p bin/plugins bin/examples
	CGO_ENABLED=0 go build -ldflags '$(LDFLAGS)' -o bin/gantry ./cmd/gantry
	CGO_ENABLED=1 go build -tags 'seccomp netgo osusergo' -ldflags '-s -w -extldflags "-static"' -o bin/gantry-keeper ./cmd/gantry-keeper
	@for main in $$(go list -f '{{if eq .Name "main"}}{{.ImportPath}}{{end}}' ./plugins/...); do \
		name=$${main#$(MODULE)/plugins/}; \
		echo "CGO_ENABLED=0 go build -o bin/plugins/$${name%%/*}-$${name##*/} $$main"; \
		CGO_ENABLED=0 go build -ldflags '-s -w' -o bin/plugins/$${name%%/*}-$${name##*/} $$main || exit 1; \
	done
	CGO_ENABLED=0 go build -ldflags '-s -w' -o bin/examples/ ./examples/...
	@if command -v clang >/dev/null && command -v wasm-ld >/dev/null; then \
		echo "examples/wasm-allocator-c/build.sh bin/plugins/firstfit.wasm"; examples/wasm-allocator-c/build.sh bin/plugins/firstfit.wasm; \
		else echo "without clang and lld there is no bin/plugins/firstfit.wasm (an example)"; fi
	GOOS=wasip1 GOARCH=wasm go build -ldflags '-s -w' -o bin/examples/sum.wasm ./examples/wasm-task-go
	@if command -v clang >/dev/null && command -v wasm-ld >/dev/null && $(WASILIBC); then \
		echo "examples/wasm-task-c/build.sh bin/examples/tally.wasm"; examples/wasm-task-c/build.sh bin/examples/tally.wasm; \
		else echo "without clang, lld and wasi-libc there is no bin/examples/tally.wasm (an example)"; fi

# Without the network a plain page takes its place.
$(PAGE): $(shell find $(UI) -name node_modules -prune -o -type f -print)
	@cd $(UI) && { test node_modules/.package-lock.json -nt package-lock.json || \
		npm ci --ignore-scripts --no-audit --no-fund --fetch-retries=1 || { echo "npm can't install what the web page needs"; exit 0; }; } && \
		npm run --silent build

# A cluster on this machine: make up ARGS='--work-dir /tmp/two --listen 127.0.0.1:0'
up: build
	@exec bin/gantry up $(ARGS)

# As root a test may not skip for want of rights: the whole product is tested.
test test-all: export GANTRY_REQUIRE_ROOT := $(shell test "$$(id -u)" = 0 && echo 1)

# Unit tests, then the built binaries; then whether what compat.tsv claims was proven by one of them.
test: test-deps build
	@rm -rf bin/results; status=0; \
	.ci/suite unit .ci/gotest bin/results/unit.json -timeout 6m $$(go list ./... | grep -v '/cmd/gantry/e2e$$') || status=1; \
	.ci/suite e2e .ci/gotest bin/results/e2e.json -count=1 -timeout 14m ./cmd/gantry/e2e || status=1; \
	test "$$(id -u)" != 0 || GANTRY_TEST_RESULTS=$(CURDIR)/bin/results/unit.json:$(CURDIR)/bin/results/e2e.json \
		.ci/suite compat go test -count=1 -run 'TestClaims$$' ./cmd/gantry/internal/compat || status=1; \
	exit $$status

# A cluster whose parts are killed, stopped and ended at random, and looked at from outside: make torture SEED=7 ROUNDS=100 AGENTS=2
SEED   ?= $(shell date +%s)
ROUNDS ?= 100
AGENTS ?= 2
torture: build
	go test -count=1 -timeout 3h -v -run '^TestTorture$$' ./cmd/gantry/e2e -seed $(SEED) -rounds $(ROUNDS) -agents $(AGENTS)

# Clusters simulated from seeds, each with faults for HOURS and then a calm end: make sim SEED=7 SEEDS=1 HOURS=8
SEEDS ?= 300
HOURS ?= 0.5
sim:
	go run ./cmd/gantry-sim -seed $(SEED) -seeds $(SEEDS) -hours $(HOURS)

# Isolators, keeper and a day of a cluster on a host with nothing but cgroup v2: a virtual machine, emulated (amd64).
test-v2: build $(KERNEL)
	@command -v qemu-system-x86_64 >/dev/null || { \
		echo "installing qemu-system-x86"; \
		test "$$(id -u)" = 0 || { echo "run make test-v2 as root, once"; exit 1; }; \
		DEBIAN_FRONTEND=noninteractive apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends qemu-system-x86; }
	GANTRY_V2=$(CURDIR)/$(KERNEL) .ci/suite v2 go test -count=1 -timeout 15m -v ./isolators/v2test

$(KERNEL):
	.ci/kernel $@

# Everything, with the race detector: for before a release.
test-all: build check
	@status=0; \
	.ci/suite race go test -race -timeout 15m $$(go list ./... | grep -v '/cmd/gantry/e2e$$') || status=1; \
	.ci/suite mutants go test -count=1 -timeout 30m ./kernel/sim -run PlantedBugs -long || status=1; \
	.ci/suite e2e go test -count=1 -timeout 40m ./cmd/gantry/e2e -rounds 100 || status=1; \
	$(MAKE) --no-print-directory test-v2 || status=1; \
	.ci/suite fuzz $(MAKE) fuzz || status=1; \
	exit $$status

check: deps
	@bad=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); test -z "$$bad" || { echo "gofmt these: $$bad"; exit 1; }
	go vet ./...
	$(TOOL) staticcheck ./...
	go mod tidy -diff
	@if command -v protoc >/dev/null; then $(MAKE) --no-print-directory protos && \
		git diff --exit-code -I '^//.*protoc' -- '*.pb.go' || { echo "make generate, and commit what it makes"; exit 1; }; fi

# Each fuzz target for $(FUZZTIME).
fuzz:
	@grep -rl '^func Fuzz' --include='*_test.go' kernel sdk plugins isolators cmd | sort | while read -r file; do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
			echo "$$target in $$file"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file) || exit 1; \
		done; \
	done

# The results are in bin/bench.txt; those of the last run, if any, are compared with them.
bench:
	@mkdir -p bin; test ! -f bin/bench.txt || mv bin/bench.txt bin/bench.old.txt
	go test -run '^$$' -bench . -benchmem $$(grep -rl '^func Benchmark' --include='*_test.go' kernel sdk plugins isolators | xargs -n1 dirname | sort -u | sed 's|^|./|') | tee bin/bench.txt
	@test ! -f bin/bench.old.txt || $(TOOL) benchstat bin/bench.old.txt bin/bench.txt

generate: protos
	@test -f /usr/include/bpf/bpf_helpers.h && command -v clang >/dev/null || { \
		apt-get update && apt-get install -y --no-install-recommends clang libbpf-dev; }
	go generate ./isolators/meter

protos:
	@command -v protoc >/dev/null && test -f /usr/include/google/protobuf/duration.proto || { \
		apt-get update && apt-get install -y --no-install-recommends protobuf-compiler libprotobuf-dev; }
	sdk/proto/generate.sh

# libseccomp, a static libc and pkg-config, for the keeper; only where they are missing.
deps:
	@pkg-config --exists libseccomp 2>/dev/null && test -f "$$(pkg-config --variable=libdir libseccomp)/libseccomp.a" && test -f "$$(gcc -print-file-name=libc.a)" || { \
		echo "installing libseccomp-dev, libc6-dev and pkg-config"; \
		test "$$(id -u)" = 0 || { echo "run make deps as root, once"; exit 1; }; \
		DEBIAN_FRONTEND=noninteractive apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libseccomp-dev libc6-dev pkg-config; }

# Clients of others are tested, one of them in JavaScript; the web page, in a browser; and a plugin and a task in C are compiled to WASM;
# masters share an etcd.
test-deps:
	@command -v npm >/dev/null && command -v chromium >/dev/null && command -v etcd >/dev/null && command -v clang >/dev/null && command -v wasm-ld >/dev/null && $(WASILIBC) || \
		test "$$(id -u)" != 0 || { \
		echo "installing clang, lld, wasi-libc, chromium, etcd-server, nodejs and npm"; \
		DEBIAN_FRONTEND=noninteractive apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends clang lld wasi-libc chromium etcd-server \
			$$(command -v npm >/dev/null || echo nodejs npm) >/dev/null && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			libclang-rt-$$(clang -dumpversion | cut -d. -f1)-dev-wasm32 >/dev/null; }

clean:
	rm -rf bin
