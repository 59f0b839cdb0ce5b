.PHONY: demo unit test compat pythons check bench fuzz faults scale format lock clean
.DEFAULT_GOAL := help
PYTHON ?= python3
PIP ?= $(PYTHON) -m pip
VENV ?= .venv
BIN := $(VENV)/bin

help:
	@echo "make demo   stream through a gateway on this machine (ONCE=1: one round, then stop)"
	@echo "make unit   run the small tests, in seconds"
	@echo "make test   run all tests but compat (JOBS=N: on N cores)"
	@echo "make compat run the clients that are installed from registries: Node SDKs, frameworks, coding agents"
	@echo "make pythons unit, step, store and corpus tests on the oldest and the newest Python at hand"
	@echo "make check  lint, types and architecture"
	@echo "make bench  relay, meter and readers on this machine; writes docs/performance.md"
	@echo "make faults break everything once, under load, and check the books (SEED=1 CRIPPLED=1)"
	@echo "make scale  several of everything, rolled over under load, with its time line"
	@echo "make fuzz   coverage-guided fuzzing of the readers (SECONDS=600)"
	@echo "make lock   pin the dependencies anew"

# --without-pip, then the system's pip, because Debian's python3 comes without ensurepip (decision 9).
$(BIN)/python:
	$(PYTHON) -m venv --without-pip $(VENV)

$(VENV)/.run: requirements.lock pyproject.toml | $(BIN)/python
	$(PIP) --python $(BIN)/python install --quiet --no-deps --require-hashes -r requirements.lock
	$(PIP) --python $(BIN)/python install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	$(PIP) --python $(BIN)/python install --quiet --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(VENV)/.run
	@$(BIN)/arouter demo $(if $(ONCE),--once)

# The tests of a file share systems, and run in one worker; workers share nothing.
JOBS ?= auto
# pytest keeps the tests as it has compiled them: where nothing may be kept, each worker compiles all of them anew.
unit test: export PYTHONDONTWRITEBYTECODE =
unit: $(VENV)/.dev
	$(BIN)/pytest --numprocesses $(JOBS) --maxprocesses 4 tests/unit

test: $(VENV)/.dev
	$(BIN)/pytest --numprocesses $(JOBS) --maxprocesses 4 --dist loadfile --hypothesis-profile thorough

compat: $(VENV)/.dev
	$(BIN)/pytest tests/compat

# The oldest supported Python is Debian 12's own; the newest is found on the PATH or in pyenv's folder of versions.
pythons:
	.ci/pythons

check: $(VENV)/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python -m bench

faults: $(VENV)/.dev
	$(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED)) $(if $(CRIPPLED),--crippled)

scale: $(VENV)/.dev
	$(BIN)/python -m tests.scale

SECONDS ?= 600
fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.fuzz.readers -max_total_time=$(SECONDS) -rss_limit_mb=2048 -timeout=20 -artifact_prefix=.fuzz-

format: $(VENV)/.dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

LOCK = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header --quiet \
	--extra embedded --extra aws --extra gcp --extra azure --extra postgres --extra otlp --extra seal
lock:
	$(LOCK) --group build --output-file requirements.lock
	$(LOCK) --group dev --constraint requirements.lock --output-file requirements-dev.lock
	$(BIN)/uv pip compile tests/compat/agents/requirements.in --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --quiet --output-file tests/compat/agents/requirements.lock

clean:
	rm -rf .venv .venv-oldest .venv-newest .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info tests/compat/agents/.venv tests/compat/node/node_modules
