# `make demo` and `make test` set everything up by themselves; `make help` lists the rest. Extra arguments: make test ARGS="-k grid"
.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint types hooks bench peers targets validate docs release-check clean
.DELETE_ON_ERROR:

# A candidate counts only if it runs: a launcher on the PATH may stand for a version that is not installed.
CHECK := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON = $(shell for p in python3.13 python3.12 python3.11 python3; do $$p -c '$(CHECK)' >/dev/null 2>&1 && { echo $$p; break; }; done)
PY := .venv/bin/python
NO_PYTHON := echo "fpsolve needs Python 3.11 or newer with its venv module, and found none. Install one of python3.13, python3.12, python3.11 (Debian, Ubuntu: apt install python3 python3-venv; Fedora: dnf install python3; macOS: brew install python), or name yours: make test PYTHON=/path/to/python3" >&2

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' Makefile | awk -F@ '{ printf "%-19s %s\n", $$1, $$2 }'

demo: .venv/installed  ## train a real network, predict the variance of its weights, compare (1 to 2 minutes)
	$(PY) -m fpsolve demo $(ARGS)

# Files of tests run side by side, in the order of conftest.py; more than four processes would compile more than they test.
PARALLEL := -p no:benchmark -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Processes that tests start read the bytecode of those before them.
test test-all: export PYTHONDONTWRITEBYTECODE =

test: .venv/installed  ## the test suite and every example of the docstrings
	$(PY) -m pytest $(PARALLEL) $(ARGS)

test-all: .venv/installed  ## the same with the slow tests
	$(PY) -m pytest -m "slow or not slow" $(ARGS)

lint: .venv/installed-dev  ## style and common mistakes
	$(PY) -m ruff check . && $(PY) -m ruff format --check --quiet .

types: .venv/installed-dev  ## type annotations
	$(PY) -m mypy

hooks: .venv/installed-dev  ## style, types and whitespace looked at by every commit (pre-commit)
	$(PY) -m pre_commit install

bench: .venv/installed  ## speed of the hot paths beside a plain NumPy/SciPy way
	$(PY) -m pytest bench --benchmark-only $(ARGS)

peers: .venv/installed-peers  ## the same problems put to other packages: table, figure, record (20 to 30 minutes; ARGS=--quick: 4)
	$(PY) bench/peers $(ARGS)

targets: .venv/installed-peers  ## every target of speed beside what is reached: record and page (20 to 30 minutes on an idle machine)
	$(PY) bench/targets.py $(ARGS)

validate: .venv/installed  ## theory against simulation, every claim, quick runs
	$(PY) -m fpsolve validate --quick --out build/validation $(ARGS)

docs: .venv/installed-docs  ## the documentation site, from build/docs/html/index.html on; a warning is an error
	rm -rf build/docs docs/reference/generated docs/gallery/generated
	$(PY) -m sphinx --quiet --keep-going -W -n -c docs -d build/docs/doctrees . build/docs/html $(ARGS)

release-check:  ## build sdist and wheel, install the wheel in a clean environment, run demo and tests there (15 to 20 minutes)
	@test -n "$(PYTHON)" || { $(NO_PYTHON); exit 1; }
	$(PYTHON) tests/release_check.py $(ARGS)

clean:  ## remove the virtual environment, caches and build outputs
	rm -rf .venv build docs/reference/generated docs/gallery/generated dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@test -n "$(PYTHON)" || { $(NO_PYTHON); exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: setup.cfg pyproject.toml | .venv/bin/python
	$(PY) -m pip install --quiet --editable ".[test]"
	@touch $@

.venv/installed-dev: .venv/installed
	$(PY) -m pip install --quiet --editable ".[test,dev]"
	@touch $@

.venv/installed-peers: .venv/installed
	$(PY) -m pip install --quiet --editable ".[test,peers]"
	@touch $@

.venv/installed-docs: .venv/installed
	$(PY) -m pip install --quiet --editable ".[test,docs]"
	@touch $@
