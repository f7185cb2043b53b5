# `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/sh

GO      ?= go
BIN     := bin
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# The same flags everywhere, or the build cache is of no use: service/ec2 alone
# takes over a minute to compile.
LDFLAGS := -X main.version=$(VERSION)

# What the tests and the demo need beside Go: the race detector needs a C
# compiler, the demo a real file system and its checker, the service a database
# for a fleet, and the console a browser that clicks.
TEST_TOOLS := gcc=gcc mkfs.ext4=e2fsprogs debugfs=e2fsprogs fsck.ext4=e2fsprogs initdb=postgresql-15 chromium=chromium
DEMO_TOOLS := mkfs.ext4=e2fsprogs debugfs=e2fsprogs fsck.ext4=e2fsprogs

# What real guests need: to build their images, boot them, convert them.
GUEST_TOOLS := mmdebstrap=mmdebstrap guestfish=libguestfs-tools qemu-img=qemu-utils qemu-nbd=qemu-utils qemu-system-x86_64=qemu-system-x86 \
	mcopy=mtools mke2fs=e2fsprogs mkfs.vfat=dosfstools /boot/vmlinuz-*=linux-image-amd64 /usr/share/OVMF/OVMF_CODE_4M.fd=ovmf \
	/usr/lib/*/guestfs/supermin.d/packages-xfs=libguestfs-xfs

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/snapferry and bin/snapferry-lab
	$(GO) build -o $(BIN)/snapferry -ldflags '$(LDFLAGS)' ./cmd/snapferry
	$(GO) build -o $(BIN)/snapferry-lab -ldflags '$(LDFLAGS)' ./cmd/snapferry-lab

.PHONY: demo
demo: ## replicate a VM from a simulated vSphere to a simulated AWS, restore it, prove it
	@build/setup $(DEMO_TOOLS)
	@$(MAKE) --no-print-directory build
	@$(BIN)/snapferry-lab demo --snapferry $(BIN)/snapferry

# The packages whose tests take longest begin first, or they run alone at the end.
SLOW := ./test/scenario ./cmd/snapferry ./cmd/internal/console/web

# Collecting garbage less often takes a tenth of the CPU away (measured on
# test/scenario), no DWARF half of what the linker takes. A program with the race
# detector sleeps a second when it ends, and the scripts start three hundred.
TEST_ENV := GOGC=400 GORACE=atexit_sleep_ms=50

.PHONY: test
test: ## what must always pass: every package with the race detector, and the linters
	@build/setup $(TEST_TOOLS)
	$(TEST_ENV) $(GO) test -race -ldflags=-w -timeout 30m $(SLOW) ./...
	@$(MAKE) --no-print-directory lint

.PHONY: scenarios
scenarios: ## every story of test/scenario, of which make test tells a half, without the race detector
	$(GO) test -parallel 6 -timeout 20m ./test/scenario # they wait as long as they work

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@test -z "$$(gofmt -l .)" || { gofmt -l . | sed 's/^/not gofmt: /'; exit 1; }
	$(GO) vet ./...
	STATICCHECK_CACHE=$$($(GO) env GOCACHE)/staticcheck $(GO) tool staticcheck ./...

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (10s)
	@build/fuzz $(or $(FUZZTIME),10s)

.PHONY: bench
bench: ## rates as ratios to a bare loop in the same run, CPU per GiB, memory
	$(GO) test -run '^$$' -bench . -benchtime $(or $(BENCHTIME),3s) ./test/bench/...

.PHONY: torture
torture: ## crashes, faults and other hands against the real binary, for TIME (240s), from SEED; then launches
	SNAPFERRY_TORTURE_TIME=$(or $(TIME),240s) SNAPFERRY_TORTURE_SEED=$(SEED) $(GO) test -count=1 -timeout 2h -v -run '^Test(Torture|Launch)' ./test/torture

.PHONY: fleet
fleet: ## two appliances on one PostgreSQL: killed, frozen, upgraded while they work; takes minutes
	@build/setup $(TEST_TOOLS)
	SNAPFERRY_FLEET=1 $(GO) test -count=1 -timeout 30m -v -run '^TestFleet$$' ./test/torture

.PHONY: guests
guests: ## a BIOS and a UEFI guest moved from QEMU to QEMU, end to end; builds them, as root; ten minutes
	@build/setup $(GUEST_TOOLS)
	SNAPFERRY_GUESTS=1 $(GO) test -count=1 -timeout 30m -v ./test/migrate

.PHONY: console
console: ## the service with its console, on a simulated vSphere whose VMs write; Ctrl-C ends it
	@$(MAKE) --no-print-directory build
	@$(BIN)/snapferry-lab console --snapferry $(BIN)/snapferry

.PHONY: long
long: ## the whole matrix, all guests, an hour of torture, minutes of each fuzz target; takes three hours
	@build/setup $(TEST_TOOLS) $(GUEST_TOOLS)
	SNAPFERRY_LONG=1 $(GO) test -race -timeout 3h ./transfer/... ./ebs/... ./vsphere/... ./launch/... ./test/...
	@$(MAKE) --no-print-directory fleet
	@$(MAKE) --no-print-directory torture TIME=1h
	@build/fuzz 3m

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN)
