# Every verb sets up .venv by itself. Requirements: Python 3.11, pip, make and git.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEVELOPMENT := $(VENV)/.development-installed
SITE := $(VENV)/.site-installed
MCPB := tests/clients/node_modules/@anthropic-ai/mcpb/package.json

.PHONY: help demo test test-all check schemas docs listing site build bundle release bench clean

help:  ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(RUNTIME)  ## Show a session through the real stdio server against the sandbox
	$(BIN)/connector-mcp demo

# An empty value lets Python keep its bytecode. Without it every worker compiles every test again, 5 s each.
test test-all: export PYTHONDONTWRITEBYTECODE :=
test: $(DEVELOPMENT)  ## Run the tests, but for those that are slow by nature
	$(BIN)/pytest -n auto --dist worksteal -m "not slow"

test-all: $(DEVELOPMENT)  ## Run every test, as CI does
	$(BIN)/pytest -n auto --dist worksteal

check: $(DEVELOPMENT)  ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

schemas: $(RUNTIME)  ## Write tool_schemas/ from the declarations
	$(BIN)/python -m tools.generate schemas

docs: $(RUNTIME)  ## Write the reference pages in docs/ from the declarations
	$(BIN)/python -m tools.generate docs

listing: $(RUNTIME)  ## Write server.json, and the repository's address wherever it stands, from pyproject.toml
	$(BIN)/python -m tools.generate listing

# The variable hides a notice of the theme's makers about its successor. With --quiet, --strict would see no warning.
site: $(SITE)  ## Build the documentation site in build/site; a dead link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

build: $(VENV)/.made  ## Build the sdist, and from it the wheel, in dist/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group build
	$(BIN)/python -m build

bundle: $(RUNTIME) $(MCPB)  ## Build the bundle for Claude Desktop in dist/, and validate it; needs Node
	$(BIN)/python -m tools.bundle

release: $(DEVELOPMENT)  ## Check all that a release needs, build it, and print what to tag and push
	$(BIN)/python -m tools.release

bench: $(DEVELOPMENT)  ## Compare with a bare server of the same SDK
	$(BIN)/python -m benchmarks

clean:  ## Remove what the verbs above created
	rm -rf $(VENV) build/site dist .pytest_cache .ruff_cache .hypothesis

# The stamps, not the folder, are the targets, so that an interrupted set-up is repeated.
$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	touch $@

$(RUNTIME): $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(DEVELOPMENT): $(RUNTIME)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	touch $@

$(SITE): $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group site
	touch $@

$(MCPB):
	npm ci --prefix tests/clients --loglevel=error --no-progress
