# The two commands a newcomer needs are `make demo` and `make test`; each makes its own virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable
# What is installed: the package with Redis, what its development needs, and what the documentation needs beside it.
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready
DOCS := $(VENV)/.docs-ready

.PHONY: help demo demo-terminal test lint types unit versions redis-versions core slow package docs docs-serve all \
	cover reference transcripts screenshots changelog-draft format faults simulate fuzz mutants autobahn bench clean

help:
	@echo "make demo             three devices in a browser beside a backend and a daemon; ARGS=--open opens it"
	@echo "make demo-terminal    every event at three devices, and who got what, without a browser"
	@echo "make test             ruff, mypy, the tests, and every branch of the core covered by its own"
	@echo
	@echo "make all              what CI runs: make test, and the next three"
	@echo "make versions         the tests that \`make test\` runs, on Python $(VERSIONS), where they are found"
	@echo "make redis-versions   tests with Redis, on others that Debian has: $(REDIS_VERSIONS)"
	@echo "make slow             the tests that take long, in a browser, and those that kill, pause and cut off"
	@echo "make package          build wheel and sdist, run the wheel where there is no checkout; the client's types"
	@echo "make docs             build the documentation into site/; make docs-serve shows it while it is written"
	@echo
	@echo "make reference        write settings, commands, metrics and examples into the documentation"
	@echo "make transcripts      write what is written from the scenes in spec/transcripts"
	@echo "make screenshots      draw the pictures in docs/images anew"
	@echo "make changelog-draft  what the next release's changelog would say"
	@echo "make format           let ruff rewrite what it can"
	@echo
	@echo "make faults           nodes and Redis killed, paused and cut off for minutes: is anything lost?"
	@echo "make simulate         nodes and devices on virtual time, a seed each, until stopped; keeps what fails"
	@echo "make fuzz             bytes that nobody would write, FUZZ_SECONDS (60) for each target"
	@echo "make mutants          small changes to the core, routing and tokens: which does no test notice?"
	@echo "make autobahn         Autobahn's fuzzing client against both transports (needs a Python 2.7)"
	@echo "make bench            the daemon beside its peers, about 35 minutes; writes benchmarks/README.md"
	@echo
	@echo "make clean            remove the virtual environment, caches and what was built"

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("localful_ws needs Python 3.11 or later, and $(PYTHON) is " + sys.version.split()[0] + "; try make PYTHON=python3.12") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(PIP) '.[redis]'
	@touch $@

$(READY): $(INSTALLED)
	$(PIP) '.[dev]'
	@touch $@

$(DOCS): $(READY)
	$(PIP) '.[dev,docs]'
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/localful-ws demo $(ARGS)

demo-terminal: $(INSTALLED)
	@$(BIN)/localful-ws demo --terminal $(ARGS)

test: lint types unit core

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

unit: $(READY)
	$(BIN)/pytest -n auto --dist loadfile

# In environments of their own, .venv-3.13 and so on. Where pyenv holds the Pythons it has to be told which.
VERSIONS ?= 3.12 3.13
versions:
	@for version in $(VERSIONS); do \
		python="env PYENV_VERSION=$$version python$$version"; \
		if $$python -c "" 2>/dev/null; then \
			$(MAKE) unit VENV=.venv-$$version PYTHON="$$python" || exit; \
		else \
			echo "There is no python$$version here."; \
		fi; \
	done

# Fetched from Debian into .redis, not installed; redis/experimental is Redis 8.6, see docs/operating.md.
REDIS_VERSIONS ?= redis/trixie valkey/trixie valkey/sid
redis-versions: $(READY)
	@programs=$$(.ci/other-redis .redis $(REDIS_VERSIONS)) || exit; \
	for program in $$programs; do \
		$$program --version; \
		LOCALFUL_WS_REDIS_SERVER=$$program $(BIN)/pytest -q -m "not (slow or browser or package)" \
			tests/engine/redis tests/checks/test_check_engine.py tests/end_to_end/test_workers.py \
			tests/test_docs.py::test_permissions_as_they_are_printed \
			tests/test_docs.py::test_publishing_without_http_as_it_is_printed \
			tests/faults/test_faults.py || exit; \
	done

# The core by its own tests, every branch; tracing all the rest as well would double the time.
core: $(READY)
	$(BIN)/coverage run --source=localful_ws/protocol -m pytest -q tests/protocol
	$(BIN)/coverage report --fail-under=100

all: test slow package docs

slow: $(READY)
	$(BIN)/pytest -m "slow or browser or faults"

# Needs PyPI and the npm registry, and so is no part of `make test`.
package: $(READY)
	$(BIN)/pytest -q -m package tests/test_package.py tests/web/test_types.py

# MkDocs is held below 2; what Material prints about that is known.
docs docs-serve: export NO_MKDOCS_2_WARNING = 1
docs: $(DOCS)
	$(BIN)/mkdocs build --clean

docs-serve: $(DOCS)
	$(BIN)/mkdocs serve --no-strict --dev-addr 127.0.0.1:8000

cover: $(READY)
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report --fail-under=90

reference: $(READY)
	$(BIN)/python docs/tools/reference.py

transcripts: $(READY)
	$(BIN)/python -m tests.scenes.written

screenshots: $(READY)
	LOCALFUL_WS_REQUIRE_BROWSER=1 LOCALFUL_WS_SCREENSHOTS=docs/images \
		$(BIN)/pytest -q -m browser tests/browser/test_screenshots.py tests/browser/test_console_screenshots.py

changelog-draft: $(READY)
	@$(BIN)/towncrier build --draft --version Unreleased

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

faults: $(READY)
	$(BIN)/python -m tests.faults --seed 1 2 3 --seconds 30
	$(BIN)/pytest -q -m faults tests/faults/test_cut.py

simulate: $(READY)
	$(BIN)/python -m tests.simulation --until-stopped

FUZZ_SECONDS ?= 60

fuzz: $(READY)
	$(PIP) '.[dev,fuzz]'
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

mutants: $(READY)
	$(PIP) '.[dev,mutants]'
	$(BIN)/python -m tests.mutation

autobahn: $(READY)
	$(BIN)/python -m tests.autobahn

bench: $(READY)
	$(PIP) '.[dev,bench]'
	-npm ci --prefix benchmarks/peers/node --no-audit --no-fund --silent
	$(BIN)/python -m benchmarks --readme

clean:
	rm -rf $(VENV) .venv-* mutants .fuzz .redis .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage build dist site
