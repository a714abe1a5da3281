# Apprentice. `make run` and `make test` set everything up themselves; `make help` lists the rest.
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt $(PIP_ARGS)
TORCH := $(shell grep '^torch==' constraints.txt)
NPM_CI := npm ci --prefix tests/node --no-audit --no-fund --loglevel=error
export TOKENIZERS_PARALLELISM := false

.PHONY: help setup run test test-postgres shake check format bench clean

help:
	@echo "make run     set up and start the bot on this machine; prints the page's address"
	@echo "make test    set up and run the whole test suite"
	@echo "make test-postgres  the tests that open a database, on PostgreSQL where the others use SQLite"
	@echo "make shake   the tests while databases, calls and events dawdle (make shake SEED=7 ONLY='tests/test_x.py')"
	@echo "make check   ruff, mypy, and the tests that hold the layout and the documents"
	@echo "make bench   measure; one JSON line a figure (make bench ONLY=name: just that one)"
	@echo "make setup   only the set-up (PIP_ARGS=... is handed to pip)"

$(VENV)/python-ok:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Apprentice needs Python 3.11 or newer; '$(PYTHON)' is not. Set PYTHON=/path/to/python3."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "The venv could not be made. On Debian: apt-get install python3-venv"; exit 1; }
	@touch $@

$(VENV)/run-ok: $(VENV)/python-ok pyproject.toml constraints.txt
	@echo "Step 1 of 2: PyTorch (up to 800 MB; a minute or two)"
	@$(PIP) $(TORCH)
	@echo "Step 2 of 2: everything else (about 600 MB; a minute or two)"
	@$(PIP) -e ".[local,charts,postgres]"
	@touch $@

$(VENV)/dev-ok: $(VENV)/run-ok
	@echo "The tools for tests"
	@$(PIP) -e ".[dev]"
	@$(NPM_CI) || echo "npm is missing or failed: the test with Slack's JavaScript SDKs will be skipped."
	@touch $@

setup: $(VENV)/run-ok

run: $(VENV)/run-ok
	@$(BIN)/apprentice serve

test: $(VENV)/dev-ok
	@$(BIN)/python -m pytest -n auto --tb=short --dist loadfile --no-loadscope-reorder

test-postgres: $(VENV)/dev-ok
	@$(BIN)/python -m pytest -n auto --tb=short --dist loadfile --no-loadscope-reorder --database postgresql

SEED ?= 1
shake: $(VENV)/dev-ok
	@$(BIN)/python -m pytest -n auto --tb=short --dist loadfile --no-loadscope-reorder --shake $(SEED) $(ONLY)

check: $(VENV)/dev-ok
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py tests/test_docs.py

format: $(VENV)/dev-ok
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/dev-ok
	@$(BIN)/python -m tests.benchmarks $(ONLY)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
