# Needs Python 3.11 and make, nothing else.
# `make serve` and `make test` make .venv by themselves from the hash-locked files in requirements/.
# The two stamps say what .venv holds, so that a later run installs nothing.
# What `make test` installs includes what `make serve` needs: the larger one sets both stamps.

PYTHON ?= python3.11
ARGS ?=
URL ?= http://127.0.0.1:8088/messages

VENV := .venv
BIN := $(VENV)/bin
SERVE_READY := $(VENV)/.serve-ready
TEST_READY := $(VENV)/.test-ready

export PIP_DISABLE_PIP_VERSION_CHECK := 1
PIP := $(BIN)/python -m pip --quiet
# Wheels only: a source package would run foreign code at install time and need a compiler.
INSTALL_LOCKED := $(PIP) install --require-hashes --only-binary :all: --requirement
# The locks bring the build backend, so building needs no isolated environment of its own.
INSTALL_ROCKETS := $(PIP) install --no-deps --no-build-isolation --editable .

IS_3_11 := import sys; sys.exit(sys.version_info[:2] != (3, 11))
# Keeps a working environment; replaces one that was left half made or belongs to another Python.
MAKE_VENV = $(BIN)/python -c 'import pip; $(IS_3_11)' 2>/dev/null || { \
	for python in "$(PYTHON)" python3; do \
		if "$$python" -c '$(IS_3_11)' 2>/dev/null; then \
			rm -rf $(VENV) && echo "making $(VENV) with $$python" && exec "$$python" -m venv $(VENV); \
		fi; \
	done; \
	echo "Python 3.11 is needed: neither $(PYTHON) nor python3 is one; use make PYTHON=/path/to/python3.11" >&2; \
	exit 1; }

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
BUILD_REQUIRES := import tomllib; \
	print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")

# Nothing where it is root already, as in CI.
AS_ROOT := $(shell test "$$(id -u)" = 0 || echo sudo --preserve-env=DEBIAN_FRONTEND)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help serve launch test test-quick nightly test-tools bench bench-shared bench-scale bench-tools \
	screenshots lint format cover lock wheel sbom clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

serve: $(SERVE_READY)  ## start the service; ARGS="..." passes flags on
	@$(BIN)/rockets serve $(ARGS)

launch: $(SERVE_READY)  ## send simulated rockets to URL; ARGS="..." passes flags on
	@$(BIN)/rockets launch $(URL) $(ARGS)

test: lint  ## what CI runs: lint, then every test; ARGS="..." goes to pytest
	$(BIN)/pytest $(ARGS)

test-quick: $(TEST_READY)  ## the tests that are not marked slow
	$(BIN)/pytest -m "not slow" $(ARGS)

# One line a kind: each can be run alone, and the first that fails ends the night.
# The limits of time are for the small rounds.
NIGHTLY := ROCKETS_FAULT_ROUNDS=$(or $(ROCKETS_FAULT_ROUNDS),100) $(BIN)/pytest --timeout 14400 -o faulthandler_timeout=0

nightly: $(TEST_READY)  ## the tests that run in rounds, with twenty times as many; takes an hour
	$(NIGHTLY) tests/journal/test_postgresql_faults.py tests/journal/test_redis_faults.py
	$(NIGHTLY) tests/test_shared_faults.py
	$(NIGHTLY) tests/test_workers.py

# redis-tools has the program of the server under another name; the package redis-server would only
# add a service that starts at once.
test-tools:  ## install what only the system's package manager can bring: Chromium, Redis
	@test -x /usr/bin/chromium -a -x /usr/bin/redis-check-rdb || { \
		export DEBIAN_FRONTEND=noninteractive; \
		$(AS_ROOT) apt-get update -qq && \
		$(AS_ROOT) apt-get install -qq --yes --no-install-recommends chromium redis-tools >/dev/null; }

bench: $(TEST_READY)  ## measure the service and write docs/performance.md; ARGS="..." passes flags on
	@$(BIN)/rockets bench --write docs/performance.md $(ARGS)

bench-shared: $(TEST_READY)  ## the same for two workers, PostgreSQL and Redis
	@$(BIN)/rockets bench --shared --write docs/performance.md $(ARGS)

bench-scale: $(TEST_READY)  ## and for one instance with a million rockets
	@$(BIN)/rockets bench-scale --write docs/performance.md $(ARGS)

bench-tools:  ## install what they need from the system's package manager: wrk
	@command -v wrk >/dev/null || { \
		export DEBIAN_FRONTEND=noninteractive; \
		$(AS_ROOT) apt-get update -qq && \
		$(AS_ROOT) apt-get install -qq --yes --no-install-recommends wrk >/dev/null; }

screenshots: $(TEST_READY)  ## take the pictures of the dashboard in docs/screenshots anew
	$(BIN)/python -m tests.screenshots docs/screenshots

lint: $(TEST_READY)  ## formatting, lint and types, without the tests
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests
	@# Only what is asynchronous can have these faults, and reading a file takes it half a second:
	@# so not the tests, which end with their process.
	$(BIN)/flake8 --isolated --select ASYNC101,ASYNC102,ASYNC113 \
		$$(grep -rlw --include='*.py' async src)
	$(BIN)/mypy

format: $(TEST_READY)  ## format the code and repair what lint can repair
	$(BIN)/ruff check --fix --exit-zero --quiet src tests
	$(BIN)/ruff format src tests

cover: $(TEST_READY)  ## every test with branch coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lock:  ## pin all dependencies anew; ARGS=--upgrade takes newer versions
	@test -x $(BIN)/uv || $(MAKE) --no-print-directory $(TEST_READY)
	@mkdir -p requirements
	@$(BIN)/python -c '$(BUILD_REQUIRES)' | $(LOCK) $(ARGS) \
		--output-file requirements/serve.txt pyproject.toml -
	@$(BIN)/python -c '$(BUILD_REQUIRES)' | $(LOCK) $(ARGS) --extra postgresql \
		--constraint requirements/serve.txt --output-file requirements/postgresql.txt pyproject.toml -
	@$(BIN)/python -c '$(BUILD_REQUIRES)' | $(LOCK) $(ARGS) --extra redis \
		--constraint requirements/serve.txt --output-file requirements/redis.txt pyproject.toml -
	@$(LOCK) $(ARGS) --group release --output-file requirements/release.txt
	@$(BIN)/python -c '$(BUILD_REQUIRES)' | $(LOCK) $(ARGS) --extra dev \
		--constraint requirements/serve.txt --constraint requirements/postgresql.txt \
		--constraint requirements/redis.txt \
		--output-file requirements/test.txt pyproject.toml -

# hatchling gives every file of a wheel the same date, mode and order; so two builds are one wheel.
wheel: $(TEST_READY)  ## build dist/*.whl, the same bytes from the same source
	@rm -f dist/*.whl
	@$(BIN)/python -m hatchling build --target wheel --directory dist

# An environment of its own: the tool's dependencies have nothing to do with ours.
sbom: $(TEST_READY)  ## write dist/rockets.cdx.json, the bill of materials (CycloneDX) of what is installed
	@test -x $(VENV)/release/bin/cyclonedx-py || { \
		$(BIN)/python -m venv $(VENV)/release && $(VENV)/release/bin/python -m pip --quiet install \
			--require-hashes --only-binary :all: --requirement requirements/release.txt; }
	@mkdir -p dist
	@$(VENV)/release/bin/cyclonedx-py requirements requirements/serve.txt --pyproject pyproject.toml \
		--output-reproducible --validate --output-file dist/rockets.cdx.json

clean:  ## remove .venv, caches and build results; databases stay
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(SERVE_READY): pyproject.toml requirements/serve.txt
	@$(MAKE_VENV)
	@echo "installing what the service needs"
	@$(INSTALL_LOCKED) requirements/serve.txt
	@$(INSTALL_ROCKETS)
	@touch $@

$(TEST_READY): pyproject.toml requirements/serve.txt requirements/test.txt
	@$(MAKE_VENV)
	@echo "installing what the service and its tests need"
	@$(INSTALL_LOCKED) requirements/test.txt
	@$(INSTALL_ROCKETS)
	@touch $(SERVE_READY) $@
