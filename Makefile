# Slipway's commands. `make help` lists them; README says how long they take.
SHELL := /bin/bash
.DEFAULT_GOAL := help

CACHE := $(or $(SLIPWAY_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/slipway)
UV_VERSION := 0.13.9
export PATH := $(CURDIR)/.venv/bin:$(CACHE)/uv-$(UV_VERSION)/bin:$(PATH)
export UV_PYTHON_DOWNLOADS := never
# Debian's Python is built with profile-guided optimisation, others seldom are: a fifth of what Python costs.
ifneq ($(wildcard /usr/bin/python3.11),)
export UV_PYTHON ?= /usr/bin/python3.11
endif

.PHONY: help setup up down test long check types unit e2e engine cluster-tests format goldens schema bench chaos clean-cache

help: ## This list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: ## Install uv and the locked Python packages into .venv
	@tools/bootstrap $(CACHE)/uv-$(UV_VERSION) $(UV_VERSION)
	@uv sync --frozen --quiet

up: setup ## From a bare machine to a prediction: toolchain, cluster, images, platform, model
	@slipway up

down: setup ## Stop everything and remove every trace but the caches
	@slipway down

check: setup ## The inner loop: lint, types, contracts, unit and component tests; no root, no toolchain
	ruff check .
	ruff format --check .
	lint-imports
	@$(MAKE) --no-print-directory -j 2 types unit

types:
	mypy

unit:
	pytest -q -n 2 -m "not slow and not engine and not cluster and not e2e"

engine: setup ## Tests with the real Pulumi engine and provider
	slipway toolchain build --install > /dev/null
	pytest -q -n 2 -m engine

cluster-tests: setup ## Tests that start embedded clusters and break them; needs root
	slipway toolchain build --install > /dev/null
	pytest -q -m cluster

e2e: setup ## The whole way on a cluster of its own; figures in build/e2e.json; needs root
	slipway toolchain build --install > /dev/null
	pytest -q -m e2e

test: check ## Check, slow, engine, cluster and end-to-end tests
	slipway toolchain build --install > /dev/null
	pytest -q -n 2 -m "slow or engine"
	pytest -q --durations 20 -m "cluster or (e2e and not long)"

long: setup ## End-to-end tests of what comes after the first deployment: rollouts, other runtimes, jobs, streams, recovery
	slipway toolchain build --install > /dev/null
	pytest -q --durations 20 -m long

format: setup ## Format and fix what can be fixed
	ruff check --fix .
	ruff format .

goldens: setup ## Rewrite the golden manifests and the stack schema
	python -m infra.config.schema
	python -m tests.golden.rewrite

chaos: setup ## Kill workers and broker of a stream, count what arrives; report in docs/chaos.md; 15 minutes
	python -m tools.chaos

bench: setup ## Measure beside peers, 1½ h; figures in bench/results, see bench/README.md
	python -m bench

clean-cache: ## Delete the cache: toolchain, images, uv
	rm -rf $(CACHE)
