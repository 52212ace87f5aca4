# Facet's commands for people; `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := dev,demo,train,monitor,web
DEMO ?= demo
PORT ?= 8750
PYTEST_FLAGS ?=
# Tests wait as often as they compute: one process more than there are cores, each with a PostgreSQL of its own.
PROCESSES ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 8 ? cores + 1 : 8)))
# A file stays in one process, for its fixtures; the slow files come first.
PARALLEL := -n $(PROCESSES) --dist loadfile --no-loadscope-reorder
# Areas and options of benchmarks/mutants.py, such as MUTANTS="track --sample 1000"
MUTANTS ?=

# What this shell has set for a deployment of its own stays out of the tests and the demo.
unexport FACET_HOME FACET_DATABASE_URL FACET_READER_DATABASE_URL FACET_BROKER_URL FACET_CROPS_URL
unexport FACET_HEADS FACET_RELEASE FACET_MEDIA_ROOTS
unexport FACET_WEB_PROXIES FACET_WEB_USER_HEADER FACET_WEB_GROUPS_HEADER FACET_WEB_ROLES
# Each of the hundreds of programs that the tests start would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup test fast lint format docs demo web chaos mutants clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with everything that Facet, its tests and its demo need

test: setup ## Run the whole test suite
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_FLAGS)

fast: setup ## Run the unit tests of less than ten seconds, which need no service
	$(BIN)/python -m pytest tests/unit -m "not slow" $(PARALLEL) $(PYTEST_FLAGS)

lint: setup ## Check style, format, types and the import contract
	@status=0; for check in 'ruff check .' 'ruff format --check .' mypy lint-imports; do \
	  echo "$$check"; $(BIN)/$$check || status=1; \
	done; exit $$status

format: setup ## Rewrite the sources in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## Write docs/commands.md anew from the programs
	FACET_REWRITE_DOCS=1 $(BIN)/python -m pytest -q tests/unit/house/test_commands_page.py

# What make prints of these commands can be typed again: they name their home and the program's path.
demo: FACET = FACET_HOME=$(DEMO)/home $(BIN)/facet
demo: setup ## Analyse a small public-domain archive in ./demo and query it
	$(BIN)/python -m worker.cli.demo $(DEMO)
	$(FACET) analyze $(DEMO)/archive || test $$? -eq 1 # since a damaged image and a text file are rejected
	$(FACET) sql "SELECT uri, kind, status, reason FROM media ORDER BY uri"
	$(FACET) sql "SELECT person_id, appearance_count, media_count, age, gender, ethnicity FROM people ORDER BY 1"
	$(FACET) sql "SELECT uri, start_seconds, end_seconds, person_id, age, gender, emotion \
	  FROM appearances JOIN media USING (media_id) WHERE kind = 'video' ORDER BY uri, start_seconds"
	$(FACET) sheet -o $(DEMO)/contact-sheet.png
	@echo "Who was found, an image of each appearance: $(DEMO)/contact-sheet.png"
	@echo "Ask further questions: $(FACET) sql \"SELECT * FROM appearances\""
	@echo "Look at the people and correct them in a browser: make web"

web: FACET = FACET_HOME=$(DEMO)/home $(BIN)/facet
web: setup ## Open the archive of ./demo in the browser, after `make demo`; PORT=8751 takes another port
	@test -d $(DEMO)/home || { echo "$(DEMO) holds no archive yet; run \`make demo\` first" >&2; exit 1; }
	$(FACET) web --open --port $(PORT)

chaos: setup ## Kill and confuse workers and services a hundred times amid busy users, and compare the rows (half an hour)
	$(BIN)/python benchmarks/chaos.py

mutants: setup ## Change the core logic, a line at a time, and count the changes that tests notice (an hour or more)
	$(BIN)/python benchmarks/mutants.py $(MUTANTS)

clean: ## Remove caches, build outputs, the demo and the quickstart; keep .venv
	rm -rf demo quickstart build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# The stamp is older than its reasons exactly when something has to be installed again.
$(STAMP): pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Facet needs Python 3.11 or newer, and '$(PYTHON)' is not. Name another: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { \
	  echo "The venv module of '$(PYTHON)' is missing. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV): the first time takes minutes, since torch is large"
	@# pip before 23.1 is slow to resolve, or fails on, this many constraints; a newer one is left as it is
	@$(BIN)/python -m pip install --quiet 'pip>=23.1'
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@
