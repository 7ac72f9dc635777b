# 'make help' lists the targets.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# No cgo: the program is one static file and builds for every system. Only the
# race detector needs a C compiler.
export CGO_ENABLED := 0
export PATH        := $(PATH):/usr/sbin:/sbin

GO        ?= go
PREFIX    ?= /usr/local
BENCHTIME ?= 100ms
# So many inputs for each fuzz target. It may be a time such as 1m, but until Go
# 1.27 the end of that is sometimes taken for a failure: go.dev/issue/75804.
FUZZTIME  ?= 20000x
# Passed to go test, such as -v, -count=1 or -run=TestName.
TESTFLAGS ?=

# Systems that everything must build for, and packages that must also work
# everywhere: those that do no I/O. Their tests run on 32 bits and big endian at
# once, emulated: not every 64-bit kernel runs programs of its 32-bit kin.
SYSTEMS := linux/arm64 linux/386 linux/s390x darwin/arm64 windows/amd64
PURE    := ./vxlan ./fdb ./internal/checksum ./internal/neighbour ./internal/rate

# Packages that the race detector can tell nothing about: those that drive the
# program from outside, and those without goroutines. To run the program
# itself under it: make test GOFLAGS=-race CGO_ENABLED=1
RACELESS := cmd/govxlan|internal/(demo|e2e|explain.*|soak.*)

# Programs that tests use, each with its Debian package.
PROGRAMS := ip:iproute2 ping:iputils-ping tshark:tshark curl:curl tmux:tmux setpriv:util-linux systemctl:systemd nsenter:util-linux dpkg:dpkg nft:nftables iptables:iptables sysctl:procps wireguard-go:wireguard-go /usr/lib/cni/host-local:containernetworking-plugins dockerd:docker.io busybox:busybox-static

# The demo and many tests make network namespaces and TAP devices, as root or by
# sudo. With GOVXLAN_SKIP_ROOT=1 such tests are skipped.
SUDO := $(if $(GOVXLAN_SKIP_ROOT)$(filter 0,$(shell id -u)),,sudo)
TEST := $(GO) test $(if $(SUDO),-exec '$(SUDO) -E env PATH=$(PATH) HOME=/root') -timeout 15m

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build tun ## show an overlay at work: two hosts, two containers, every packet
	@$(SUDO) bin/govxlan demo

.PHONY: demo-docker
demo-docker: build programs tun ## the same with two Docker daemons and the network driver
	@$(SUDO) $(GO) run ./internal/dockerlab/demo bin/govxlan

.PHONY: test
test: programs tun ## run all tests
	$(TEST) $(TESTFLAGS) $$($(GO) list ./... | grep -vE '/internal/(e2e|soak)$$')
	$(TEST) $(TESTFLAGS) -p 1 ./internal/e2e ./internal/soak # each with the machine for itself

.PHONY: e2e
e2e: programs tun ## run the tests with real hosts, such as with GOVXLAN_E2E_DATAPATH=user
	$(TEST) $(TESTFLAGS) ./internal/e2e

# Where what is built goes.
OUT ?= bin

# Of the same source, the same bytes: nothing that is built knows when it was,
# or where.
VERSION ?= $(shell sed -n 's/^var version = "\(.*\)"/\1/p' cmd/govxlan/version.go)
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

.PHONY: build
build: ## build bin/govxlan
	$(GO) build -trimpath -ldflags '$(LDFLAGS) -X main.version=$(VERSION)' -o '$(OUT)/' ./cmd/govxlan

.PHONY: man
man: ## write the manual pages into bin/man
	@rm -rf '$(OUT)/man' && mkdir -p '$(OUT)/man'
	@$(GO) test ./cmd/govxlan -count=1 -run '^TestManPages$$' -man "$$(realpath '$(OUT)/man')" >/dev/null

.PHONY: install
install: build man ## install it below $(PREFIX), with manual pages, shell completion and systemd units
	$(SUDO) install -D -m 755 '$(OUT)/govxlan' '$(DESTDIR)$(PREFIX)/bin/govxlan'
	@$(SUDO) install -d '$(DESTDIR)$(PREFIX)/share/man/man8' '$(DESTDIR)$(PREFIX)/lib/systemd/system' \
		'$(DESTDIR)$(PREFIX)/share/doc/govxlan'
	@for page in '$(OUT)'/man/*.8; do \
		gzip -9nc "$$page" | $(SUDO) tee '$(DESTDIR)$(PREFIX)/share/man/man8/'"$${page##*/}.gz" >/dev/null; \
	done
	@for shell in bash:bash-completion/completions/govxlan zsh:zsh/vendor-completions/_govxlan fish:fish/vendor_completions.d/govxlan.fish; do \
		file='$(DESTDIR)$(PREFIX)/share/'"$${shell#*:}"; \
		$(SUDO) install -d "$${file%/*}"; \
		'$(OUT)/govxlan' completion "$${shell%%:*}" | $(SUDO) tee "$$file" >/dev/null; \
	done
	@for unit in govxlan.service govxlan@.service; do \
		sed 's,/usr/bin/govxlan,$(PREFIX)/bin/govxlan,' "cmd/govxlan/dist/$$unit" \
		| $(SUDO) tee '$(DESTDIR)$(PREFIX)/lib/systemd/system/'"$$unit" >/dev/null; \
	done
	@$(SUDO) install -m 644 cmd/govxlan/dist/copyright cmd/govxlan/dist/Dockerfile '$(DESTDIR)$(PREFIX)/share/doc/govxlan'
	@gzip -9nc CHANGELOG.md | $(SUDO) tee '$(DESTDIR)$(PREFIX)/share/doc/govxlan/CHANGELOG.md.gz' >/dev/null
	@$(SUDO) install -D -m 644 cmd/govxlan/dist/govxlan.yaml '$(DESTDIR)$(PREFIX)/share/doc/govxlan/examples/govxlan.yaml'

# nfpm has a module file of its own: the program has nothing to do with what it
# depends on.
.PHONY: deb
deb: ## build bin/govxlan_*.deb
	@rm -rf '$(OUT)/deb'
	@$(MAKE) --no-print-directory install SUDO= DESTDIR='$(OUT)/deb' PREFIX=/usr LDFLAGS='-s -w'
	@chmod -R u=rwX,go=rX '$(OUT)/deb'
	VERSION=$(VERSION) STAGE='$(OUT)/deb' DEB_ARCH=$$($(GO) env GOARCH) \
		$(GO) tool -modfile=cmd/govxlan/dist/nfpm.mod nfpm package -f cmd/govxlan/dist/nfpm.yaml -p deb -t '$(OUT)/'

.PHONY: vet
vet: ## run go vet
	$(GO) vet ./...

.PHONY: lint
lint: vet ## run go vet, gofmt and staticcheck
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt would change:" $$unformatted; exit 1; }
	$(GO) tool staticcheck ./...

# Known vulnerabilities in what is called, by the database of the Go project or a
# copy of it (such as file:///...). Findings fail; a database that cannot be reached
# is said, and does not.
GOVULNCHECK ?= golang.org/x/vuln/cmd/govulncheck@v1.9.0
VULNDB      ?= https://vuln.go.dev

.PHONY: vulncheck
vulncheck: ## look for known vulnerabilities in what the program calls
	GOBIN=$(CURDIR)/bin $(GO) install $(GOVULNCHECK)
	@status=0; said=$$(bin/govulncheck -db $(VULNDB) ./... 2>&1) || status=$$?; \
	printf '%s\n' "$$said"; \
	if [ $$status = 1 ] && grep -qE '^govulncheck: fetching vulnerabilities: .*(dial tcp|proxyconnect|[Tt]imeout)' <<<"$$said"; then \
		echo "the vulnerability database $(VULNDB) is not reachable from here: nothing was checked"; \
	else exit $$status; fi

.PHONY: reproducible
reproducible: ## build twice, in different places, and compare
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	for place in one two/further/down; do \
		mkdir -p "$$dir/$$place"; \
		tar -cf - --exclude=./.git --exclude=./bin . | tar -xf - -C "$$dir/$$place"; \
	done; \
	build() { $(GO) build -trimpath -buildvcs=false -o govxlan ./cmd/govxlan; sha256sum govxlan; }; \
	(cd "$$dir/one" && build); \
	(cd "$$dir/two/further/down" && GOCACHE="$$dir/cache" build); \
	cmp "$$dir/one/govxlan" "$$dir/two/further/down/govxlan"

# The object files hold what clang 14 makes of the C file, byte by byte.
.PHONY: generate
generate: PROGRAMS += clang:clang llvm-strip:llvm
generate: programs ## compile the programs of the accelerated data path
	@[ -e /usr/include/bpf/bpf_helpers.h ] || { $(SUDO) apt-get update -qq; $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends libbpf-dev linux-libc-dev; }
	$(GO) generate ./internal/datapath

.PHONY: race
race: PROGRAMS += gcc:build-essential
race: export CGO_ENABLED := 1
race: programs tun ## run the tests of what is concurrent under the race detector
	$(TEST) -race $(TESTFLAGS) $$($(GO) list ./... | grep -vE '/($(RACELESS))$$')

# A test binary for each package: "go test -fuzz" would link it anew for each target.
.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME
	@bin=$$(mktemp); trap 'rm -f "$$bin"' EXIT; cache=$$($(GO) env GOCACHE)/fuzz; \
	for dir in $$(grep -lR --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
		$(GO) test -c -fuzz=. -o "$$bin" "$$dir"; \
		inputs=$$cache/$$($(GO) list "$$dir"); \
		for target in $$("$$bin" -test.list '^Fuzz'); do \
			echo "$$dir $$target"; \
			said=$$(cd "$$dir" && "$$bin" -test.run '^$$' -test.fuzz "^$$target\$$" -test.fuzztime $(FUZZTIME) \
				-test.fuzzcachedir "$$inputs" 2>&1) || { printf '%s\n' "$$said"; exit 1; }; \
		done; \
	done

.PHONY: cross
cross: PROGRAMS += qemu-mips:qemu-user
cross: programs ## build for the other systems, test the pure packages on 32 bits, big endian
	@for system in $(SYSTEMS); do \
		echo "$(GO) build ./... for $$system"; \
		GOOS=$${system%/*} GOARCH=$${system#*/} $(GO) build ./...; \
	done
	GOARCH=mips $(GO) test -exec qemu-mips $(TESTFLAGS) $(PURE)

# How long a soak is, and the seed that makes the same one again.
TIME ?= 10m
SEED ?=

.PHONY: soak
soak: build programs tun ## run endpoints under traffic, change and faults for TIME, report in bin/soak
	$(SUDO) env PATH=$(PATH) $(GO) run ./internal/soak/soak -binary bin/govxlan -time $(TIME) $(if $(SEED),-seed $(SEED)) -out bin/soak

# What make bench measures: fewer systems, tests or rounds take less time.
SYSTEMS_MEASURED ?= veth,kernel,govxlan-ebpf,govxlan,govxlan-plain,wireguard-go,fastd
ROUNDS           ?= 5
SECONDS_EACH     ?= 1

.PHONY: bench
bench: PROGRAMS += fastd:fastd
bench: build programs tun ## measure everything and write docs/benchmarks.md, in about half an hour
	$(SUDO) bin/govxlan bench net --systems $(SYSTEMS_MEASURED) --rounds $(ROUNDS) --seconds $(SECONDS_EACH) --json >docs/benchmarks-net.json
	$(SUDO) bin/govxlan bench codec --json >docs/benchmarks-codec.json
	bin/govxlan bench report docs/benchmarks-net.json docs/benchmarks-codec.json \
		--markdown docs/benchmarks.md --plot docs/benchmarks.svg

.PHONY: microbench
microbench: programs tun ## run the benchmarks of the Go packages, each for BENCHTIME
	$(TEST) -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...

.PHONY: clean
clean: ## remove what was built
	rm -rf bin

# programs installs what is missing of PROGRAMS, where there is apt-get.
.PHONY: programs
programs:
	@missing=; for p in $(PROGRAMS); do \
		command -v "$${p%:*}" >/dev/null || missing+=" $${p#*:}"; \
	done; \
	if [ -n "$$missing" ]; then \
		command -v apt-get >/dev/null || { echo "install these, or what they are called here:$$missing"; exit 1; }; \
		echo "installing$$missing"; \
		$(SUDO) apt-get update -qq; \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends $$missing; \
	fi

# tun provides /dev/net/tun, which containers often lack.
.PHONY: tun
tun:
	@[ -e /dev/net/tun ] || $(SUDO) modprobe tun 2>/dev/null || true
	@[ -e /dev/net/tun ] || { $(SUDO) mkdir -p /dev/net; $(SUDO) mknod -m 666 /dev/net/tun c 10 200; }
