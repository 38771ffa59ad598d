# prep: `make run` holds an interview, `make test` runs every test.
# Needs Python 3.11 or newer, a C++ compiler and a package index; all else is fetched.

PYTHON_BIN := .venv/bin/python
SPEECH := tests/speech
DEMO = $(PYTHON_BIN) -m prepcli interview --plain \
	--role "Backend Engineer" --type technical --level mid --questions 5 \
	--audio $(SPEECH)/payments-migration.wav \
	--audio $(SPEECH)/event-sourcing.wav \
	--audio $(SPEECH)/conflict.wav \
	--audio $(SPEECH)/short-answer.wav

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test setup setup-dev models starters demo check chaos bench docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

run: starters ## Set up, fetch the starter models, hold an interview (recorded, without a terminal)
	@if [ -t 0 ] && [ -t 1 ]; then $(PYTHON_BIN) -m prepcli interview; else $(DEMO); fi

test: setup-dev starters ## The same set-up, then the whole test suite on the real models
	@$(PYTHON_BIN) -m pytest

setup: ## Make .venv with the client and the server
	@python=$$(packaging/find-python) && "$$python" packaging/install.py server

setup-dev:
	@python=$$(packaging/find-python) && "$$python" packaging/install.py server dev

models: setup ## Fetch and verify the starter models, and say where they are
	@$(PYTHON_BIN) -m prepserver models pull starter

starters: setup
	@$(PYTHON_BIN) -m prepserver models pull starter >/dev/null

demo: starters ## A short spoken interview from recordings
	@$(DEMO)

check: setup-dev ## Format, lint, types, import contracts, fast tests
	@$(PYTHON_BIN) -m ruff format --check .
	@$(PYTHON_BIN) -m ruff check .
	@$(PYTHON_BIN) -m mypy
	@$(PYTHON_BIN) -m mypy packaging/*.py docs/*.py
	@.venv/bin/lint-imports
	@$(PYTHON_BIN) -m pytest -m "not models and not e2e"

chaos: setup-dev ## The long forms of the crash tests, many minutes: make chaos NAMES="power"
	@$(PYTHON_BIN) -m pytest --chaos -rP -k "$(NAMES)"

bench: setup-dev starters ## Speed and memory beside peers, in one run: make bench NAMES="rooms"
	@$(PYTHON_BIN) -m tests.bench $(NAMES)

docs: setup-dev ## Write docs/reference anew from the code
	@$(PYTHON_BIN) docs/generate.py

clean: ## Remove caches and build output; .venv and the models stay
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find prepserver prepcli tests docs packaging -name __pycache__ -type d -prune -exec rm -rf {} +
