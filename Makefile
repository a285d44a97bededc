# Every target sets up what it needs. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
SUPPORTED := $(shell sed -nE 's/.*"Programming Language :: Python :: (3\.[0-9]+)".*/\1/p' pyproject.toml)
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
PEERS := .venv-bench
LOWEST := .venv-lowest
MINISTACK := .venv-ministack
MUTATION := .venv-mutation
DBT := .venv-dbt
LAYER := trigger/.build/layer.zip
NODE := node_modules/.ready
PEERS_LOCK := tests/benchmarks/requirements.lock
# Each worker has servers of its own and takes whole files in their order, so the longest come first. PARALLEL= runs one
# test after the other, as pytest does.
PARALLEL = -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
LOCK = $(VENV)/bin/uv pip compile --quiet --upgrade --no-header --no-annotate --no-emit-index-url --generate-hashes
# Postgres and Pythons that test-versions runs on; a Python is a version or an interpreter's path.
POSTGRES ?= 14 15 16 17 18
PYTHONS ?=
PARTS := .venv-parts

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-platform test test-lowest test-tools test-trigger test-infra test-compose test-faults test-versions simulate test-every-fault planted-bugs flakes test-histories mutation fuzz env up down package deploy redrive undeploy bench bench-peers bench-growth bench-s3 bench-reader bench-all bench-journal bench-stack compare-dirt check format lock sbom licences audit clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):[^#]*## /\1\t/' | expand -t 15

setup: $(READY) ## make .venv with everything, in locked versions

demo: $(READY) $(LAYER) ## run the whole job on this machine, for two days; KEEP=1 stays up and shows what comes; STOCKS=folder for your own batch, INDEX=file
	@$(RUN) -m tests.system.demo $(if $(STOCKS),--stocks '$(STOCKS)') $(if $(INDEX),--index '$(INDEX)') $(if $(KEEP),--keep)

demo-platform: $(READY) $(LAYER) $(NODE) ## rehearse the way to AWS and back with the real commands, without AWS and without costs
	@$(RUN) -m tests.system.demo_platform

test: $(READY) $(LAYER) ## run the tests (MBD_REAL_BATCH=archive adds the real batch); what takes longer follows
	@$(RUN) -m pytest $(PARALLEL) $(TESTS)

test-lowest: $(READY) $(LOWEST)/.ready ## test etl with the lowest versions that pyproject.toml allows, as the Airflow image may bring them; KEEP=1 keeps the counts
	@$(RUN) -m tests.proof.versions.run --lowest '$(LOWEST)/bin/python' $(if $(KEEP),--keep) $(TESTS)

test-tools: $(READY) $(DBT)/.ready ## test the library alone as a wheel in a venv of its own, and the sources for dbt by dbt itself
	@$(RUN) -m pytest $(or $(TESTS),tests/etl/tools)

test-trigger: $(READY) $(LAYER) $(MINISTACK)/.ready $(NODE) ## test the trigger as packaged, and deployed to an AWS emulator, with Airflow
	@$(RUN) -m pytest -s $(or $(TESTS),tests/trigger/integration tests/trigger/deploy)

test-infra: $(READY) ## test the platform and its commands (s3fs and Docker are used where they are there)
	@$(RUN) -m pytest $(PARALLEL) $(or $(TESTS),tests/infra/integration)

test-compose: $(READY) $(LAYER) ## run the compose stacks for real, with kills and restarts (needs Docker)
	@MBD_COMPOSE=1 $(RUN) -m pytest -s --durations=10 $(or $(TESTS),tests/stack)

test-faults: $(READY) $(LAYER) ## break, stall, fill and kill everything, by the hundred (MBD_FIGURES=file keeps the figures)
	@MBD_FAULTS=1 $(RUN) -m pytest $(PARALLEL) $(or $(TESTS),tests/system/test_shards_and_kills.py tests/etl/faults tests/trigger/faults tests/etl/integration/test_killed_at_random.py tests/proof/simulator/test_airflow_rules.py)

test-every-fault: $(READY) ## let each call to the outside meet each fault (MINUTES=3: as many as fit; SEED=2; SHARE=0.1 a tenth); PAIRS=1 two faults; KEEP=1 keeps the figures
	@$(RUN) -m tests.proof.every_fault $(if $(SHARE),--share $(SHARE)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) \
		$(if $(PAIRS),--pairs) $(if $(KEEP),--keep)

flakes: $(READY) $(LAYER) ## run the tests N times (10) next to LOAD busy processes (2), and print what was not green each time
	@$(RUN) -m tests.support.flakes --runs $(or $(N),10) --load $(or $(LOAD),2) $(PARALLEL) $(TESTS)

test-histories: $(READY) ## let readers and loads write a history and check it: LOADS=1000, KEEP=1 keeps the figures
	@MBD_HISTORY_LOADS=$(or $(LOADS),1000) $(if $(KEEP),MBD_KEEP_PROOF=1) $(RUN) -m pytest tests/proof/histories tests/etl/integration/test_readers_during_loads.py

planted-bugs: $(READY) $(LAYER) ## plant bugs in a copy, one at a time, for the tests to find; SHARE=0.3 takes three in ten, KEEP=1 keeps the figures
	@$(RUN) -m tests.proof.planted_bugs $(if $(SHARE),--share $(SHARE)) $(if $(KEEP),--keep)

test-versions: $(READY) ## test etl on other majors of PostgreSQL (POSTGRES="14 16") and other Pythons (PYTHONS="3.12 3.13"); KEEP=1 keeps the counts
	@$(RUN) -m tests.proof.versions.run --postgres '$(POSTGRES)' --pythons '$(PYTHONS)' $(if $(KEEP),--keep) $(TESTS)

simulate: $(READY) ## simulate days of the whole system with faults: SEED=7 DAYS=100; SEEDS=100 SECONDS=300 plays so many for so long, STORY=1 prints one, PLANTED=1 plants bugs first, RESULTS=file goes on where it was interrupted, KEEP=1 keeps the figures, ADD=1 goes on after those kept
	@$(RUN) -m tests.proof.simulator.simulate --seed $(or $(SEED),0) --seeds $(or $(SEEDS),1) --days $(or $(DAYS),100) \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(STORY),--story) $(if $(PLANTED),--planted) $(if $(RESULTS),--results '$(RESULTS)') \
		$(if $(ADD),--add) $(if $(KEEP),--keep)

mutation: $(READY) $(LAYER) $(MUTATION)/.ready ## change the code that guards the data, and see which changes no test notices; OPTIONS='--sample 20'; KEEP=1 keeps the figures
	@$(RUN) -m tests.proof.mutation.run --mutants-python $(MUTATION)/bin/python $(if $(KEEP),--keep) $(OPTIONS)

fuzz: $(READY) ## fuzz the readers of company files and index, then the native checker; SECONDS=300 for each
	@$(RUN) -m tests.etl.fuzz.byte_fuzz --seconds $(or $(SECONDS),60)
	@$(RUN) -m tests.etl.fuzz.plain_rows_fuzz --seconds $(or $(SECONDS),60)

env: ## make .env, or complete it: strong secrets for the Airflow stack
	@airflow/make_env.sh

up: ## build and start the Airflow stack, wait until it is healthy, say where it is (WORKERS=N with Celery)
	@WORKERS=$(WORKERS) airflow/up.sh

down: ## stop the Airflow stack; its database and logs stay in their volumes
	@docker compose --project-name "$${COMPOSE_PROJECT_NAME:-moving-big-data}" down --remove-orphans --timeout 30

package: $(LAYER) $(NODE) ## build the trigger's zip and its awscli layer, and package the service; needs no AWS account
	@npx serverless package

deploy: $(LAYER) $(NODE) ## deploy the trigger with the settings of .env; STAGE=dev makes a second one
	@npx serverless deploy $(if $(STAGE),--stage '$(STAGE)')

# A key is data: make and the shell would read $ and quotes in it.
redrive: override export MARKER := $(value MARKER)
redrive: $(NODE) ## try again the events that started no run; MARKER=key starts one for that marker
	@npx serverless invoke --function redrive $(if $(STAGE),--stage '$(STAGE)') \
		$${MARKER:+--data "$$(node -p 'JSON.stringify({marker: process.env.MARKER})')"}

undeploy: $(NODE) ## remove the trigger from AWS, with its bucket of markers
	@npx serverless remove $(if $(STAGE),--stage '$(STAGE)')

bench: $(READY) ## measure runs against psql \copy (MBD_REAL_BATCH=archive: on the real batch)
	@$(RUN) -m tests.benchmarks.bench_run $(BENCH)

bench-peers: $(READY) $(PEERS)/.ready ## the same with what people use instead; BENCH='--rounds 3 --only polars' for both
	@$(RUN) -m tests.benchmarks.bench_run --peers $(PEERS)/bin/python $(BENCH)

bench-growth: $(READY) ## measure a first load and an unchanged rerun of 1, 2, 4 and 7 times the files
	@$(RUN) -m tests.benchmarks.bench_run --growth $(BENCH)

bench-s3: $(READY) ## count the requests of runs from S3 (moto), and measure reading against boto3 (nginx)
	@$(RUN) -m tests.benchmarks.bench_s3

bench-reader: $(READY) $(PEERS)/.ready ## measure read_prices, a trader's queries, and what a reader meets during loads
	@$(RUN) -m tests.benchmarks.bench_reader --peers $(PEERS)/bin/python $(BENCH)

bench-all: $(READY) $(PEERS)/.ready ## measure all of these on the real batch, for docs/performance.md; 20 minutes
	@$(RUN) -m tests.benchmarks.bench_all --peers $(PEERS)/bin/python $(BENCH)

bench-journal: $(READY) ## measure what the journal costs loads and readers; BENCH='--rounds 1'
	@$(RUN) -m tests.benchmarks.bench_journal $(BENCH)

bench-stack: $(READY) ## measure a batch through the compose stack (needs Docker); BENCH='--workers 2 --shards 2 --runs 3'
	@$(RUN) -m tests.benchmarks.bench_stack $(BENCH)

compare-dirt: $(READY) $(PEERS)/.ready ## load the dirty cases with what people use instead, and judge every row; 20 minutes; CASES='crlf json' for some; KEEP=1 for the docs
	@$(RUN) -m tests.proof.dirt.compare --peers $(PEERS)/bin/python $(if $(CASES),--cases '$(CASES)') $(if $(WAYS),--ways '$(WAYS)') $(if $(KEEP),--keep)

check: $(READY) ## lint, format, types, imports, spelling, docs, shell scripts, CloudFormation, Dockerfile
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-cache >/dev/null || $(VENV)/bin/lint-imports --no-cache
	@$(VENV)/bin/codespell $$(git ls-files ':!tests/data' ':!*.lock' ':!package-lock.json')
	@$(RUN) -m tests.support.docs --check
	@$(RUN) -m pytest -q tests/system/test_rules.py
	@$(VENV)/bin/shellcheck $$(git ls-files '*.sh') .ci/run
	@$(VENV)/bin/cfn-lint infra_scripts/platform/platform.yml
	@$(VENV)/bin/hadolint airflow/Dockerfile

format: $(READY) ## format the code
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

lock: $(READY) ## resolve the newest allowed versions into requirements.lock
	@$(LOCK) --universal --python-version 3.11 --group dev pyproject.toml --output-file requirements.lock
	@$(LOCK) --python-version 3.13 --group trigger --constraints requirements.lock --output-file trigger/function.lock
	@$(LOCK) --python-version 3.13 --group layer --output-file trigger/layer.lock
	@$(LOCK) --universal --python-version 3.11 --group lambda --output-file tests/support/awslambdaric.lock
	@$(LOCK) --universal --python-version 3.11 --group emulator --output-file tests/support/ministack.lock
	@$(LOCK) --universal --python-version 3.11 --group dbt --output-file tests/support/dbt.lock
	@$(LOCK) --universal --python-version 3.11 --group bench --constraints requirements.lock --output-file $(PEERS_LOCK)
	@echo "ingestr==0.15.9 ; sys_platform == 'linux' and platform_machine == 'x86_64'" | $(LOCK) --universal --python-version 3.11 --no-deps - >>$(PEERS_LOCK)
	@$(LOCK) --universal --python-version 3.11 --group mutation --output-file tests/proof/mutation/cosmic_ray.lock
	@$(LOCK) --universal --python-version 3.11 --group parts --output-file tests/support/parts.lock

sbom: $(READY) $(PARTS)/.ready $(NODE) ## list the parts of everything in dist/sbom-*.json (CycloneDX)
	@mkdir -p dist
	@for lock in requirements.lock trigger/function.lock trigger/layer.lock; do name=$$(basename $$lock .lock); \
		PYTHONWARNINGS=ignore $(PARTS)/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-file dist/sbom-$$name.json $$lock; done
	@npm sbom --sbom-format cyclonedx >dist/sbom-node.json
	@ls dist/sbom-*.json

licences: $(READY) $(LAYER) ## list what is shipped, with versions and licences
	@$(RUN) -m tests.support.parts licences

audit: $(READY) $(PARTS)/.ready $(NODE) ## look up what is known to be vulnerable, where a database is in reach
	@$(RUN) -m tests.support.parts audit --pip-audit $(PARTS)/bin/pip-audit

clean: ## remove what the other targets made
	rm -rf $(VENV) $(PEERS) $(LOWEST) $(MINISTACK) $(DBT) $(PARTS) $(MUTATION) .venv-3.* .postgres .venv-lambda node_modules trigger/.build .serverless .demo .demo-platform .pytest_cache .mypy_cache .ruff_cache .hypothesis dist etl/files/_plain_rows.so .mutation.jsonl .simulated.jsonl

# uv installs the 200 packages in seconds; where it cannot (an index that only pip is set up for), pip does in minutes.
$(READY): requirements.lock pyproject.toml hatch_build.py etl/files/plain_rows.cpp
	@found=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); [[ " $(SUPPORTED) " == *" $$found "* ]] || \
		{ echo "One of Python $(SUPPORTED) is needed; $(PYTHON) is $${found:-not there}. Name one: make PYTHON=python3.13 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up $(VENV) (about a minute the first time)"
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is needed: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
	@sed -n '/^uv==/,/[^\]$$/p' requirements.lock >$(VENV)/uv.txt
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt
	@$(VENV)/bin/uv pip sync --quiet --python $(RUN) --require-hashes requirements.lock || \
		$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(VENV)/bin/uv pip install --quiet --python $(RUN) --no-deps --no-build-isolation --offline --editable .
	@$(RUN) -c 'from etl.files import native; native.available() or print(native.describe())'
	@touch $(READY)

$(LAYER): trigger/function.lock trigger/layer.lock $(wildcard trigger/*.py) | $(READY)
	@$(RUN) -m trigger.build

# An AWS emulator for tests, in a venv of its own: what it runs must bring its own packages.
$(MINISTACK)/.ready: tests/support/ministack.lock | $(READY)
	@$(VENV)/bin/uv venv --quiet --clear --python $(RUN) $(MINISTACK)
	@$(VENV)/bin/uv pip install --quiet --python $(MINISTACK)/bin/python --require-hashes --requirements tests/support/ministack.lock
	@touch $@

# cosmic-ray in a venv of its own: it makes the mutants, and runs none of our code.
$(MUTATION)/.ready: tests/proof/mutation/cosmic_ray.lock | $(READY)
	@$(VENV)/bin/uv venv --quiet --clear --python $(RUN) $(MUTATION)
	@$(VENV)/bin/uv pip install --quiet --python $(MUTATION)/bin/python --require-hashes --requirements tests/proof/mutation/cosmic_ray.lock
	@touch $@

# dbt in a venv of its own, as traders have it; where its packages cannot be installed, its tests say that they are skipped.
$(DBT)/.ready: tests/support/dbt.lock | $(READY)
	@$(VENV)/bin/uv venv --quiet --clear --python $(RUN) $(DBT)
	@$(VENV)/bin/uv pip install --quiet --python $(DBT)/bin/python --require-hashes --requirements tests/support/dbt.lock && touch $@ \
		|| { rm -rf $(DBT); echo "dbt could not be installed: its tests are skipped."; }

# The lowest versions of etl's libraries that have a wheel for this Python; what the tests need is as it is locked.
$(LOWEST)/.ready: pyproject.toml requirements.lock | $(READY)
	@$(VENV)/bin/uv venv --quiet --clear --python $(RUN) $(LOWEST)
	@$(VENV)/bin/uv pip compile --quiet --no-header --no-annotate --no-build --resolution lowest-direct \
		--python $(LOWEST)/bin/python pyproject.toml --output-file $(LOWEST)/lowest.txt
	@sed 's/ \\$$//; /^ /d' requirements.lock | grep -v -f <(sed 's/==.*/==/; s/^/^/' $(LOWEST)/lowest.txt) >$(LOWEST)/locked.txt
	@$(VENV)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --requirements $(LOWEST)/lowest.txt \
		--constraints $(LOWEST)/locked.txt --group test --group trigger hatchling editables
	@$(VENV)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --no-deps --no-build-isolation --offline --editable .
	@touch $@

# Without Node.js the tests that deploy say that they are skipped; whatever needs it fails by its own word.
$(NODE): package.json package-lock.json
	@if command -v npm >/dev/null; then npm ci --no-audit --no-fund --silent && touch $@; \
	else echo "Node.js is missing: serverless is not installed. Install Node.js 20 or newer with npm."; fi

# The peers in a venv of their own, without Airflow, which dlt would import. Installed as locked and without what else a
# package asks for: ingestr is one program, and asks for a hundred packages that it does not use.
$(PEERS)/.ready: $(PEERS_LOCK) | $(READY)
	@$(VENV)/bin/uv venv --quiet --clear --python $(RUN) $(PEERS)
	@$(VENV)/bin/uv pip sync --quiet --python $(PEERS)/bin/python --require-hashes $(PEERS_LOCK)
	@touch $@

# What lists parts, and looks them up, in a venv of its own: it brings more packages than it lists for the function.
$(PARTS)/.ready: tests/support/parts.lock | $(READY)
	@$(VENV)/bin/uv venv --quiet --clear --python $(RUN) $(PARTS)
	@$(VENV)/bin/uv pip sync --quiet --python $(PARTS)/bin/python --require-hashes tests/support/parts.lock
	@touch $@
