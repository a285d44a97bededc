# Every target sets up what it needs. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
PEERS := .venv-bench
PEERS_LOCK := tests/benchmarks/requirements.lock

.DEFAULT_GOAL := help
.PHONY: help setup demo test bench bench-peers bench-growth bench-s3 bench-reader check format lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 14

setup: $(READY) ## make .venv with everything, in locked versions

demo: $(READY) ## run the whole job on this machine; KEEP=1 leaves it up; STOCKS=folder INDEX=file for your own batch
	@$(RUN) -m tests.e2e.demo $(if $(STOCKS),--stocks '$(STOCKS)') $(if $(INDEX),--index '$(INDEX)') $(if $(KEEP),--keep)

test: $(READY) ## run all tests (MBD_REAL_BATCH=archive adds the real batch)
	@$(RUN) -m pytest $(TESTS)

bench: $(READY) ## measure a run against psql \copy (MBD_REAL_BATCH=archive: on the real batch)
	@$(RUN) -m tests.benchmarks.bench_run $(BENCH)

bench-peers: $(READY) $(PEERS)/.ready ## the same with pandas, polars, duckdb, dlt, execute_values; BENCH='--rounds 3' for both
	@$(RUN) -m tests.benchmarks.bench_run --peers $(PEERS)/bin/python $(BENCH)

bench-growth: $(READY) ## measure a run on 1, 2, 4 and 7 times the files
	@$(RUN) -m tests.benchmarks.bench_run --growth $(BENCH)

bench-s3: $(READY) ## measure reading from S3 against boto3 (needs nginx)
	@$(RUN) -m tests.benchmarks.bench_s3

bench-reader: $(READY) ## measure what a reader meets during loads
	@$(RUN) -m tests.benchmarks.bench_reader

check: $(READY) ## lint, format and types
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

format: $(READY) ## format the code
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

lock: $(READY) ## resolve the newest allowed versions into requirements.lock
	@$(VENV)/bin/uv pip compile --quiet --universal --upgrade --python-version 3.11 --no-header --no-annotate \
		--no-emit-index-url --group dev pyproject.toml --output-file requirements.lock
	@$(VENV)/bin/uv pip compile --quiet --universal --upgrade --python-version 3.11 --no-header --no-annotate \
		--no-emit-index-url --group bench --constraints requirements.lock --output-file $(PEERS_LOCK)

clean: ## remove what the other targets made
	rm -rf $(VENV) $(PEERS) .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis dist

# uv installs the 200 packages in seconds; where it cannot (an index that only pip is set up for), pip does in minutes.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed (Airflow 3.3); $(PYTHON) is $$($(PYTHON) --version 2>&1). Name one: make PYTHON=python3.13 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up $(VENV) (about a minute the first time)"
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is needed: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
	@$(RUN) -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	@$(VENV)/bin/uv pip sync --quiet --python $(RUN) requirements.lock || \
		$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(VENV)/bin/uv pip install --quiet --python $(RUN) --no-deps --no-build-isolation --offline --editable .
	@touch $(READY)

# The peers in a venv of their own, without Airflow, which dlt would import: their lock, and pandas and Arrow as we have them.
$(PEERS)/.ready: $(PEERS_LOCK) requirements.lock | $(READY)
	@$(VENV)/bin/uv venv --quiet --clear --python $(RUN) $(PEERS)
	@$(VENV)/bin/uv pip install --quiet --python $(PEERS)/bin/python --requirements $(PEERS_LOCK) \
		--constraints requirements.lock pandas pyarrow psycopg2-binary
	@touch $@
