# `make help` lists the verbs. Everything runs inside .venv, which `make setup` builds once and keeps current.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
STAMP := $(VENV)/.psi0-setup

.PHONY: help setup recipe test test-long lint up down status bench clean

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Build .venv: pinned packages, robot meshes and System-0 weights (once; then a no-op)

$(STAMP): pyproject.toml constraints.txt assets.txt infra/setup.sh
	@bash infra/setup.sh $(VENV)
	@touch $(STAMP)

recipe: setup ## The whole recipe through a real Prefect deployment (TASKS="pick_can" or all, STRICT=1 exits 3 on a refusal)
	@python -m flows.run $(if $(TASKS),--tasks "$(TASKS)") $(if $(STRICT),--strict)

test: setup ## The test suite, one smoke run of the whole recipe included
	@python -m pytest

test-long: setup ## What takes minutes per test
	@python -m pytest -m long

lint: setup ## ruff and mypy
	@ruff check . && ruff format --check . && mypy

up: setup ## Start the services on this machine (S3, MLflow, Prefect, worker, Ray)
	@psi0 up

down: setup ## Stop them; their state stays
	@psi0 down

status: setup ## Say which services answer
	@psi0 status

bench: setup ## Side by side measurements, ratios in benchmarks/
	@for file in benchmarks/*.py; do echo "== $$file"; python $$file || exit 1; done

clean: ## Remove what stages made (DVC's cache and service state stay)
	@rm -rf data models evaluation gate dvc.lock
