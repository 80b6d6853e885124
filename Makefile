# The two commands a newcomer needs are `make demo` and `make test`; each makes its own virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test lint types unit core cover package faults simulate autobahn bench format clean

help:
	@echo "make demo      start a daemon and three devices, publish every event, show who got what"
	@echo "make test      ruff, mypy, all tests, and every branch of the core covered by its own"
	@echo "make package   build wheel and sdist, and run the wheel where there is no checkout"
	@echo "make faults    nodes and Redis killed, paused and cut off for minutes: is anything lost?"
	@echo "make bench     the daemon beside its peers, about 35 minutes; writes benchmarks/README.md"
	@echo "make simulate  worlds of nodes and devices on virtual time, one seed each, until stopped; keeps what fails"
	@echo "make autobahn  Autobahn's fuzzing client against both transports (needs a Python 2.7)"
	@echo "make format    let ruff rewrite what it can"
	@echo "make clean     remove the virtual environment and caches"

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("localful_ws needs Python 3.11 or later, and $(PYTHON) is " + sys.version.split()[0] + "; try make PYTHON=python3.12") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(READY)
	@$(BIN)/localful-ws demo

test: lint types unit core

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

unit: $(READY)
	$(BIN)/pytest

# The core by its own tests, every branch; tracing all the rest as well would double the time.
core: $(READY)
	$(BIN)/coverage run --source=localful_ws/protocol -m pytest -q tests/protocol
	$(BIN)/coverage report --fail-under=100

cover: $(READY)
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report --fail-under=90

# Needs PyPI, and so is no part of `make test`.
package: $(READY)
	$(BIN)/pytest -q -m package tests/test_package.py

faults: $(READY)
	$(BIN)/python -m tests.faults --seed 1 2 3 --seconds 30
	$(BIN)/pytest -q tests/faults/test_cut.py

simulate: $(READY)
	$(BIN)/python -m tests.simulation --until-stopped

autobahn: $(READY)
	$(BIN)/python -m tests.autobahn

bench: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	-npm ci --prefix benchmarks/peers/node --no-audit --no-fund --silent
	$(BIN)/python -m benchmarks --readme

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage build dist
