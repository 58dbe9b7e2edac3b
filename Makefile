# SPDX-License-Identifier: GPL-3.0-or-later
# Bare `make` prints what there is. Everything is set up by the targets themselves, in .venv.

.DEFAULT_GOAL := help
SHELL := /bin/bash

# Debian's own interpreter first: every user of the machine can run it, as the tests need.
PYTHON ?= $(shell for python in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
VENV := .venv
BIN := $(VENV)/bin

# What torbox is built with, what it sends traffic through, and what the tests and the demo run.
BUILD_PACKAGES := python3-venv python3-dev gcc libcap-dev
DEMO_PACKAGES := tor curl iproute2
# Ubuntu has no firefox-esr of its own and its chromium is a snap, which runs in nobody's sandbox but snapd's;
# there the tests that need them are skipped and counted.
BROWSERS := $(shell . /etc/os-release 2>/dev/null; [ "$$ID" = debian ] && echo firefox-esr chromium)
TERMINAL_PROGRAMS := htop less openssh-client openssh-server tmux vim
DESKTOP := xvfb xdotool x11-utils x11-xserver-utils dbus dbus-tests xdg-dbus-proxy weston wayland-utils pulseaudio pulseaudio-utils
# Others' packages of nodejs hold npm, and conflict with Debian's of that name.
NPM := $(shell command -v npm >/dev/null || echo npm)
PROFILED := git wget python3-pip $(NPM) mutt weechat-curses
SHELLS_AND_MANUALS := zsh fish groff-base
TEST_PACKAGES := $(BROWSERS) $(DESKTOP) $(PROFILED) $(TERMINAL_PROGRAMS) $(SHELLS_AND_MANUALS) strace tcpdump microsocks procps util-linux iputils-ping nginx-light iperf3 wrk netcat-openbsd socat slirp4netns passt

# Who torbox is measured against; nsproxy is in no distribution: name its program by NSPROXY.
BENCH_PACKAGES := slirp4netns passt microsocks proxychains4

.PHONY: help
help: ## Show this list
	@echo "torbox: run any program in a rootless sandbox whose only way out is Tor"; echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: bench
bench: .cache/bench-packages .venv/bench ## Measure torbox against slirp4netns, pasta and others; 15 minutes
	@rm -rf .cache/compiled
	@$(BIN)/python -m tests.support.compiled .cache/compiled
	@cd .cache/compiled && ../../$(BIN)/python -m tests.bench --output ../../docs $(ARGS)

.PHONY: demo
demo: .cache/demo-packages .venv/installed ## Show the main job at work, offline, with a private Tor network
	@$(BIN)/python -m tests.demo

.PHONY: test
test: .cache/test-packages .venv/installed ## Run all tests
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: check
check: .venv/installed ## Format, lint, types and layout
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layout.py

.PHONY: fuzz
fuzz: .venv/installed ## Send ten million hostile frames at the stack (ARGS="--frames N --seconds S --seed N")
	@$(BIN)/python -m tests.fuzz $(ARGS)

.PHONY: netsim
netsim: .venv/installed ## Throughput of the stack against itself, by buffer and loss, in simulated time
	@$(BIN)/python -m tests.netstack.test_netsim

.PHONY: mutants
mutants: .cache/test-packages .venv/installed ## Take each protection out by itself and see a test fail (ARGS="WORD")
	@$(BIN)/python -m tests.mutants $(ARGS)

.PHONY: siege
siege: .cache/test-packages .venv/installed ## Attack a live worker for minutes, an honest client beside it
	@$(BIN)/python -m tests.siege $(ARGS)

.PHONY: soak
soak: .cache/test-packages .venv/installed ## 10,000 open and 100,000 short connections through a live worker
	@$(BIN)/python -m tests.soak $(ARGS)

.PHONY: tornet
tornet: .cache/demo-packages .venv/installed ## Run a private Tor network on loopback until Ctrl-C
	@$(BIN)/python -m tests.tornet

.PHONY: docs
docs: .venv/installed ## Write the documents that are made from the code
	$(BIN)/python -m torbox.profiles.reference > docs/profiles.md
	$(BIN)/python -m torbox.profiles.schema > torbox/profiles/profile.schema.json
	$(BIN)/python -m tests.mutants --table
	$(BIN)/python -m torbox.profiles.manual > docs/torbox-profile.5
	$(BIN)/python -m torbox.cli.manual > docs/torbox.1

.PHONY: wheel
wheel: .venv/installed ## Build the wheel into dist/
	$(BIN)/python -m pip --quiet wheel --no-deps --wheel-dir dist .

.PHONY: clean
clean: ## Remove what the other targets made
	rm -rf $(VENV) build dist .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache

# Debian packages are installed when root may, else named in the one line that installs them.
define need-packages
	@missing=$$(dpkg-query --show --showformat '$${Package} $${db:Status-Status}\n' $(1) 2>&1 \
		| awk '/ installed$$/ {next} /no packages found matching/ {print $$NF; next} {print $$1}' | tr '\n' ' '); \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" = 0 ]; then \
			echo "installing $$missing"; \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
				apt-get install -y -qq --no-install-recommends $$missing >/dev/null || exit 1; \
		else \
			echo "These packages are missing; install them with this line and try again:"; \
			echo "  sudo apt-get install -y --no-install-recommends $$missing"; exit 1; \
		fi; \
	fi
	@mkdir -p .cache; touch $@
endef

.cache/build-packages: Makefile
	$(call need-packages,$(BUILD_PACKAGES))

.cache/demo-packages: Makefile
	$(call need-packages,$(BUILD_PACKAGES) $(DEMO_PACKAGES))

.cache/test-packages: Makefile
	$(call need-packages,$(BUILD_PACKAGES) $(DEMO_PACKAGES) $(TEST_PACKAGES))

.cache/bench-packages: Makefile
	$(call need-packages,$(BUILD_PACKAGES) $(DEMO_PACKAGES) $(BENCH_PACKAGES))

.venv/bench: .venv/installed
	@$(BIN)/python -m pip --quiet --disable-pip-version-check install --editable '.[bench]'
	@touch $@

.venv/installed: pyproject.toml | .cache/build-packages
	@test -n "$(PYTHON)" || { echo "torbox needs Python 3.11 or newer, and none is here"; exit 1; }
	@echo "setting up $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip --quiet --disable-pip-version-check install --use-pep517 --editable '.[dev]'
	@touch $@
