# prep: `make run` holds an interview, `make test` runs every test.
# Requires Python 3.11 or newer, a C++ compiler and a package index; the rest is downloaded.
# With WHEELS=folder, the compiled wheel of that folder is installed and no compiler is needed.

PYTHON_BIN := .venv/bin/python
SPEECH := tests/speech
DEMO = $(PYTHON_BIN) -m prepcli interview --plain \
	--role "Backend Engineer" --type technical --level mid --questions 5 \
	--audio $(SPEECH)/payments-migration.wav \
	--audio $(SPEECH)/event-sourcing.wav \
	--audio $(SPEECH)/conflict.wav \
	--audio $(SPEECH)/short-answer.wav

INSTALL = python=$$(packaging/find-python) && "$$python" packaging/install.py $(if $(WHEELS),--wheels "$(WHEELS)")

# With SET, `make run` fetches and uses that set of models, and fetches no other in the background.
FIRST_SET = $(or $(SET),starter)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test setup setup-dev wheel lock models starters demo lint check chaos bench evaluate docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

run: ## Install, download the starter models, and hold an interview: make run SET=starter
	@$(INSTALL) server --pull $(FIRST_SET)
	@$(PYTHON_BIN) -m prepserver models pull $(FIRST_SET) >/dev/null
	@$(if $(SET),export PREP_MODELS_SET="$(SET)";) if [ -t 0 ] && [ -t 1 ]; then $(PYTHON_BIN) -m prepcli interview; else $(DEMO); fi

test: setup-dev starters ## Install, then run every test, on the real models
	@$(PYTHON_BIN) -m pytest

setup: ## Create .venv with the client and the server
	@$(INSTALL) server

setup-dev:
	@$(INSTALL) server dev

wheel: ## Compile llama-cpp-python for all processors, for make run WHEELS=folder
	@python=$$(packaging/find-python) && "$$python" packaging/llama_build.py "$(or $(WHEELS),wheels)"

lock: setup-dev ## Update packaging/locks after a change of the requirements: make lock UPGRADE=1
	@$(PYTHON_BIN) packaging/lock.py $(if $(UPGRADE),--upgrade)

models: setup ## Download and verify the starter models, and print their paths
	@$(PYTHON_BIN) -m prepserver models pull starter

starters:
	@$(INSTALL) server --pull starter
	@$(PYTHON_BIN) -m prepserver models pull starter >/dev/null

demo: starters ## Hold a short spoken interview from recordings
	@$(DEMO)

lint: setup-dev ## Check format, style, types, import contracts and lock files
	@$(PYTHON_BIN) -m ruff format --check .
	@$(PYTHON_BIN) -m ruff check .
	@$(PYTHON_BIN) -m mypy
	@$(PYTHON_BIN) -m mypy packaging/*.py docs/*.py
	@.venv/bin/lint-imports
	@$(PYTHON_BIN) packaging/lock.py --check

check: lint ## Lint, then run the fast tests: the check before each commit
	@$(PYTHON_BIN) -m pytest -m "not models and not e2e and not slow"

chaos: setup-dev ## Run the long crash tests (many minutes): make chaos NAMES="power"
	@$(PYTHON_BIN) -m pytest --chaos -rP -k "$(NAMES)"

bench: setup-dev starters ## Measure speed and memory beside peers: make bench NAMES="rooms"
	@$(PYTHON_BIN) -m tests.bench $(NAMES)

evaluate: setup-dev starters ## Interview scripted candidates with the installed sets of models
	@$(PYTHON_BIN) -m tests.bench.evaluation

docs: setup-dev ## Regenerate docs/reference from the code
	@$(PYTHON_BIN) docs/generate.py

clean: ## Delete caches and build output; keep .venv and the models
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find prepserver prepcli tests docs packaging -name __pycache__ -type d -prune -exec rm -rf {} +
