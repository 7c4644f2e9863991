# Everything here works on a fresh clone with Python 3.11 and make: what a target needs, it installs.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest
# Tests start hundreds of processes; without kept bytecode each compiles its imports anew, half of its start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-16s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(STAMP) ## Create .venv with the locked dependencies (every other target does it by itself)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; found $(PYTHON). Try: make PYTHON=/path/to/python3.11 setup" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
		|| { echo "The venv module is missing (on Debian: apt install python3.11-venv)" >&2; exit 1; }
	@echo "installing the locked dependencies into $(VENV) (once; a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

BENCH_VENV := .venv-bench
BENCH_STAMP := $(BENCH_VENV)/.installed

$(BENCH_STAMP): requirements-bench.lock
	@test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	@echo "installing Quix Streams into $(BENCH_VENV) (once)"
	@$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes \
		-r requirements-bench.lock
	@touch $@

.PHONY: check
check: $(STAMP) ## Lint, types, layers, schema compatibility and unit tests: under a minute, no services
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m emergency_stop.wire.compatibility
	$(PYTEST) -q -n 2 --dist loadfile tests/unit tests/contract

.PHONY: test
test: $(STAMP) ## Every test that this machine can run; names what it lacks at the end
	$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder tests # as collected: the longest files are not the last

.PHONY: demo
demo: $(STAMP) ## The main job on embedded parts, about a minute; ends with one line of JSON
	@$(BIN)/estop demo

.PHONY: dev
dev: $(STAMP) ## The same stack, staying up: for trying things, not for production
	@$(BIN)/estop dev

.PHONY: bench-detector
bench-detector: $(STAMP) ## Detector against plain Faust and the oracle on Apache Kafka (Java 17, Maven)
	@$(BIN)/python -m tests.bench.detector

.PHONY: bench-peers
bench-peers: $(STAMP) $(BENCH_STAMP) ## The same job beside Kafka Streams, Flink, Quix Streams and Faust (Java 17, Maven)
	@$(BIN)/python -m tests.bench.peers

.PHONY: bench-latency
bench-latency: $(STAMP) ## Event to readable stop command beside 1k, 20k and 200k events/s on Apache Kafka (Java 17, Maven)
	@$(BIN)/python -m tests.bench.latency

.PHONY: bench-failover
bench-failover: $(STAMP) ## kill -9 of one of two detectors under load: how long until its partitions fire again
	@$(BIN)/python -m tests.bench.failover

.PHONY: bench-sink
bench-sink: $(STAMP) ## Rows per second into chDB (and ESTOP_CLICKHOUSE_URL) beside fastavro and client.insert
	@$(BIN)/python -m tests.bench.sink

.PHONY: bench-stop
bench-stop: $(STAMP) ## Event to the last proof that it stopped: 5 services of 2 instances, overload, bounces, crowds, kills
	@$(BIN)/python -m tests.bench.stop

.PHONY: bench-standby
bench-standby: $(STAMP) ## How long a partition of a million accounts takes to restore, with and without a standby copy
	@$(BIN)/python -m tests.bench.standby

.PHONY: bench-triggers
bench-triggers: $(STAMP) ## What one more trigger costs, from 1 to 100, and the memory of a million accounts
	@$(BIN)/python -m tests.bench.triggers
	@$(BIN)/python -m tests.bench.triggers --live 1000000

.PHONY: bench-views
bench-views: $(STAMP) ## Every analysts' view over a month of 50 million telemetry rows in chDB: time, rows and bytes read, plan
	@$(BIN)/python -m tests.bench.views

.PHONY: bench-backtest
bench-backtest: $(STAMP) ## Five million events from chDB through the production detector: events per second, hits against the run's
	@$(BIN)/python -m tests.bench.backtest

.PHONY: test-oracle
test-oracle: $(STAMP) ## Random triggers over random streams with crashes: hits against a naive twin's
	@$(BIN)/python -m tests.oracle

.PHONY: simulate
simulate: $(STAMP) ## Seeded schedules of the whole stop protocol, recoveries, planted bugs (make simulate SEED=… N=…)
	@SEED=$(SEED) N=$(N) $(BIN)/python -m tests.simulation

.PHONY: simulate-recovery
simulate-recovery: $(STAMP) ## Emergencies with healthy services, and with one fault each: recovered, or rolled back (SEED=… N=…)
	@$(BIN)/python -m tests.simulation.recovery $(or $(SEED),20260701) $(or $(N),1000)

.PHONY: test-kill
test-kill: $(STAMP) ## At least 20 kill -9 and pauses under load on Apache Kafka (Java 17, Maven)
	@$(BIN)/python -m tests.campaign

.PHONY: test-sink-kill
test-sink-kill: $(STAMP) ## At least 50 rounds of kill -9 and database outages under load: each record one row (Java 17, Maven)
	@$(BIN)/python -m tests.campaign.sink

.PHONY: test-tamper
test-tamper: $(STAMP) ## Thousands of tampers with a real audit, in its export and in its database: each must be found
	@$(BIN)/python -m tests.tamper

.PHONY: test-erasure
test-erasure: $(STAMP) ## Erased accounts in topics, tables and backups of both: every key that is left is tried on every text
	@$(BIN)/python -m tests.erasure

.PHONY: fmt
fmt: $(STAMP) ## Format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: lock
lock: $(STAMP) ## Resolve the three locks anew (make lock UPGRADE=--upgrade for newer versions)
	$(BIN)/uv pip compile --quiet pyproject.toml --all-extras --group dev $(LOCK) $(UPGRADE) -o requirements.lock
	$(BIN)/uv pip compile --quiet pyproject.toml --extra server $(LOCK) -c requirements.lock -o deploy/image.lock
	$(BIN)/uv pip compile --quiet --group bench $(LOCK) $(UPGRADE) -o requirements-bench.lock

LOCK := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command 'make lock'

.PHONY: docs
docs: $(STAMP) ## Write the generated pages of docs/ anew
	$(BIN)/python docs/state-machines/generate.py
	$(BIN)/python docs/configuration.py
	$(BIN)/python -m docs.rules
	$(BIN)/python -m docs.triggers
	$(BIN)/python docs/adr/index.py

.PHONY: image-lint
image-lint: $(STAMP) ## Check deploy/, docker-compose.yml and, where Docker is present, the image's build file
	$(PYTEST) -q tests/contract/test_deploy.py
	@if docker buildx version >/dev/null 2>&1; then docker build --check -f deploy/Dockerfile .; \
	else echo "skipped: Docker's buildx is not on this machine, deploy/Dockerfile was not checked by it"; fi

.PHONY: clean
clean: ## Remove .venv, caches and what a run left in .estop
	rm -rf $(VENV) $(BENCH_VENV) .estop .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find streams tests docs -name __pycache__ -type d -prune -exec rm -rf {} +
