# Every command a developer needs. CI runs these same targets and nothing else.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
NODE_STAMP := node_modules/.package-lock.json

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help dev test check format acceptance bench examples migrations lock clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

dev: $(STAMP)  ## run everything on http://127.0.0.1:54321 (RESET=1 starts over)
	@exec $(BIN)/tallybook dev $(if $(filter-out 0,$(RESET)),--reset)

test: $(STAMP)  ## run the test suite on its own embedded Postgres (ARGS="-k redeem")
	$(BIN)/pytest $(ARGS)

check: $(STAMP)  ## format, lint, types, import contracts, house tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/house $(ARGS)

format: $(STAMP)  ## rewrite the sources in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

acceptance: $(STAMP) $(NODE_STAMP)  ## run real clients and tools against the gateway (needs npm)
	$(BIN)/pytest -m acceptance $(ARGS)

bench: $(STAMP) $(NODE_STAMP)  ## measure against a hand-written minimum and a Deno peer (needs npm; wrk for HTTP)
	$(BIN)/python -m benchmarks $(ARGS)

examples: $(STAMP)  ## run examples/*.sql and compare with their .out
	$(BIN)/python -m examples $(ARGS)

migrations: $(STAMP)  ## rebuild supabase/migrations from sql/ and policies/
	$(BIN)/tallybook migrate build

# Without the machine's own pip configuration, so that the hashes are those everybody is served.
lock: $(STAMP)  ## pin the newest allowed versions in requirements.lock
	PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --upgrade \
		--extra dev --strip-extras --generate-hashes --allow-unsafe \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--output-file requirements.lock pyproject.toml

clean:  ## remove what was built or installed, the local database included
	rm -rf .venv .tallybook node_modules build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an interrupted installation starts again. An environment that works
# is kept and brought up to date, so that a shell that is using it keeps working.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tallybook needs Python 3.11 or newer: make PYTHON=python3.12")'
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# No package here needs its installation script, so none may run.
$(NODE_STAMP): package-lock.json package.json
	npm ci --ignore-scripts --no-fund --no-audit --loglevel error
	@touch $@
