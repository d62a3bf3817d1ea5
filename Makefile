# `make help` lists the targets.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
CONTROL_PLANE := tests/support/control-plane
# cargo-deny is a tool, not a dependency: one version of it, kept outside the clone.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/acs-identity-operator
DENY_VERSION := 0.20.2
DENY := $(CACHE)/cargo-deny-$(DENY_VERSION)/bin/cargo-deny
CHART := charts/acs-identity-operator
CHARTS := acs-identity-operator acs-emulator
# A template can read only files of its own chart.
CRDS := crds/acs-identity.dev.yaml $(CHART)/files/crds.yaml
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
IMAGE ?= acs-identity-operator:$(VERSION)
EMULATOR_IMAGE ?= acs-emulator:$(VERSION)
IMAGE_ARGS = --build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git rev-parse HEAD) $(if $(BUILD_IMAGE),--build-arg BUILD_IMAGE=$(BUILD_IMAGE))
# `make plugin` installs into bin/ of this folder.
PLUGIN_ROOT ?= $(or $(CARGO_HOME),$(HOME)/.cargo)
# How many identities and tokens `make bench` makes.
N ?= 1000

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: prerequisites ## Build the operator, the emulator and the kubectl plugin
	$(CARGO) build --locked --bins

.PHONY: plugin
plugin: ## Install kubectl-acs, for `kubectl acs`, with its completion
	$(CARGO) install --locked --path . --no-default-features --features plugin --bin kubectl-acs --root $(PLUGIN_ROOT)
	ln -sf kubectl-acs $(PLUGIN_ROOT)/bin/kubectl_complete-acs

.PHONY: test
test: prerequisites browser control-plane promtool gitops ## Install the tools for all tests, and run all tests
	@echo "==> building and running the tests"
	$(CARGO) test --locked

.PHONY: histories
histories: prerequisites ## Check the invariants in 100000 random histories
	HISTORIES_SEED=$$RANDOM$$RANDOM HISTORIES=100000 $(CARGO) test --locked --test histories -- --nocapture

.PHONY: small-worlds
small-worlds: prerequisites ## Check the invariants in small worlds with up to two deviations; takes hours
	DEVIATIONS=2 $(CARGO) test --locked --test histories small -- --nocapture

.PHONY: test-leader
test-leader: prerequisites control-plane ## Disturb a leader 50 times in each way while tokens are issued; 30 minutes
	LEADER_ROUNDS=50 LEADER_TOKENS=20 $(CARGO) test --locked --test cluster leader::rounds -- --nocapture --test-threads 2

# The last version that knew no Lease.
FORMER ?= ac4a3d50ebd59978b325a72905c65b1bc6c0c7cd

.PHONY: test-upgrade
test-upgrade: prerequisites control-plane ## Upgrade from the commit FORMER to this one and roll back while 200 tokens are issued; 10 minutes
	@[ -d target/former ] || git worktree add --force target/former $(FORMER)
	cd target/former && git checkout --quiet $(FORMER) && $(CARGO) build --locked --bin acs-identity-operator --target-dir ../former-build
	FORMER_OPERATOR=$(CURDIR)/target/former-build/debug/acs-identity-operator LEADER_TOKENS=$${LEADER_TOKENS:-200} \
		$(CARGO) test --locked --test cluster leader::upgrade -- --nocapture

.PHONY: chaos
chaos: prerequisites control-plane ## Stop, kill and disconnect real processes CHAOS_ROUNDS (300) times; takes hours
	CHAOS_ROUNDS=$${CHAOS_ROUNDS:-300} $(CARGO) test --locked --test chaos

.PHONY: soak
soak: prerequisites control-plane ## Renew and change a fleet for SOAK_MINUTES (60), and check that resource use does not grow
	SOAK_MINUTES=$${SOAK_MINUTES:-60} $(CARGO) test --locked --test chaos

.PHONY: check
check: prerequisites $(DENY) ## Check formatting, lints, features, dependencies and generated files
	@echo "==> rustfmt"; $(CARGO) fmt --check
	@echo "==> clippy"; $(CARGO) clippy --locked --all-targets -- -D warnings
	@echo "==> each program alone"; CARGO=$(CARGO) .ci/features.sh
	@echo "==> cargo-deny"; $(DENY) --log-level error check bans licenses sources
	@echo "==> documentation"; RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --quiet --locked --no-deps --document-private-items
	@echo "==> generated files are current"
	@for copy in $(CRDS); do $(CARGO) run --quiet --locked --bin acs-identity-operator -- crds | diff -u $$copy - \
		|| { echo "$$copy differs from the types: run make generate and commit"; exit 1; }; done
	@for chart in $(CHARTS); do .ci/chart-readme.py $$chart | diff -u charts/$$chart/README.md - \
		|| { echo "charts/$$chart/README.md differs from values.yaml: run make generate and commit"; exit 1; }; done
	@$(VALUES_PAGE) | diff -u docs/values.md - || { echo "docs/values.md differs from values.yaml: run make generate and commit"; exit 1; }
	@$(API_PAGE) | diff -u docs/api.md - || { echo "docs/api.md differs from the types: run make generate and commit"; exit 1; }
	@echo "==> links"; .ci/links.py

.PHONY: advisories
advisories: $(DENY) ## Check dependencies for known vulnerabilities (needs the advisory database)
	$(DENY) check advisories

# Commands that print the generated pages of the documentation.
API_PAGE = $(CARGO) run --quiet --locked --example api-reference
VALUES_PAGE = .ci/chart-readme.py acs-identity-operator | sed -n '1s/.*/\# Chart values\n/p; /^. value/,$$p'

.PHONY: generate
generate: prerequisites ## Generate the CRDs and the API reference from the Rust types, and the tables of chart values
	$(CARGO) run --quiet --locked --bin acs-identity-operator -- crds | tee $(CRDS) > /dev/null
	for chart in $(CHARTS); do readme=$$(.ci/chart-readme.py $$chart) && printf '%s\n' "$$readme" > charts/$$chart/README.md; done
	$(VALUES_PAGE) > docs/values.md
	$(API_PAGE) > docs/api.md

MDBOOK_VERSION := 0.5.4
MDBOOK := $(CACHE)/mdbook-$(MDBOOK_VERSION)/bin/mdbook

$(MDBOOK):
	$(CARGO) install mdbook --locked --version $(MDBOOK_VERSION) --root $(CACHE)/mdbook-$(MDBOOK_VERSION)

.PHONY: book
book: $(MDBOOK) ## Build the documentation as a book in target/book
	$(MDBOOK) build

.PHONY: install-manifest
install-manifest: ## Write target/install.yaml with the image IMAGE, for clusters without Helm
	@mkdir -p target
	@.ci/install-manifest.sh "$(IMAGE)" > target/install.yaml
	@echo "target/install.yaml installs $(IMAGE): kubectl apply --server-side -f target/install.yaml"

# Builds the target $(1) of the Dockerfile as $(2).
define build-image
	@for tool in docker podman buildah; do \
		if command -v $$tool > /dev/null && $$tool info > /dev/null 2>&1; then \
			echo "==> building $(2) with $$tool"; exec $$tool build $(IMAGE_ARGS) --target $(1) -t $(2) .; \
		fi; \
	done; echo "nothing here builds images: install podman or buildah, or start docker"; exit 1
endef

.PHONY: image
image: ## Build the container image IMAGE of the operator and the plugin with docker, podman or buildah
	$(call build-image,operator,$(IMAGE))

.PHONY: emulator-image
emulator-image: ## Build the container image EMULATOR_IMAGE of the emulator
	$(call build-image,emulator,$(EMULATOR_IMAGE))

vendor.tar: Cargo.lock .ci/image.sh .ci/vendor.sh ## Collect all dependencies, for building images without network
	.ci/vendor.sh

.PHONY: release-dry-run
release-dry-run: prerequisites ## Build a release into dist, without the steps that need the network; 15 minutes
	@.ci/release-dry-run.sh

.PHONY: demo
demo: build control-plane ## Show the main use in one minute, from an empty cluster to a renewed token
	@examples/demo.sh

.PHONY: dev
dev: build control-plane ## Run a control plane, an emulator and the operator
	@tests/support/dev.sh

.PHONY: e2e
e2e: prerequisites ## Test the charts on a real node, and check the token of a pod throughout (root); 10 minutes
	@tests/e2e/run.sh

.PHONY: bench
bench: prerequisites control-plane ## Create N (1000) identities and tokens, and compare with a raw writer
	@echo "==> building with optimisation"
	N=$(N) $(CARGO) bench --locked --bench throughput

.PHONY: bench-fleet
bench-fleet: prerequisites control-plane ## Measure fleets of 1000 to 30000 (or N) tokens at rest, on restart and when a key is rotated; one hour
	@echo "==> building with optimisation"
	FLEET=$(if $(filter command line,$(origin N)),$(N),1000,3000,10000,30000) $(CARGO) bench --locked --bench throughput

.PHONY: control-plane
control-plane: ## Build etcd, kube-apiserver, kube-controller-manager, kubectl and helm (once)
	@$(CONTROL_PLANE)/build.sh > /dev/null
	@$(CONTROL_PLANE)/build.sh helm > /dev/null

.PHONY: promtool
promtool: ## Build promtool, which tests the alerts (once)
	@$(CONTROL_PLANE)/build.sh promtool > /dev/null

.PHONY: gitops
gitops: ## Build the tools that judge objects like Argo CD and Flux (once)
	@$(CONTROL_PLANE)/build.sh gitops > /dev/null

.PHONY: browser
browser: ## Install Chromium and chromedriver for the tests of the console (root on Debian), or say how
	@if ! command -v chromedriver > /dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		echo "==> installing Chromium and chromedriver (once)"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver > /dev/null; \
	fi
	@command -v chromedriver > /dev/null || { echo "chromedriver is missing, with which the console is tested; install it with its Chromium (Debian: chromium chromium-driver)"; exit 1; }

.PHONY: prerequisites
prerequisites:
	@command -v $(CARGO) > /dev/null || { echo "Rust is missing; install $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or later: https://rustup.rs"; exit 1; }
	@command -v cc > /dev/null || { echo "a C compiler is missing, which ring needs; install one (Debian: gcc)"; exit 1; }
	@python3 -c 'import ensurepip, venv' 2> /dev/null || { echo "Python 3 with venv is missing, in which the official client is tested; install it (Debian: python3-venv)"; exit 1; }

$(DENY):
	@echo "==> building cargo-deny $(DENY_VERSION) (once)"
	$(CARGO) install --quiet --locked --root $(CACHE)/cargo-deny-$(DENY_VERSION) --version $(DENY_VERSION) cargo-deny
