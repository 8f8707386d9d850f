# The commands of this project. `make up` and `make test` are the two a newcomer needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv
ENV    ?=
ARGS   ?=

.PHONY: help up down test check install install-dev lock synth package generate bench format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

up: install  ## install what runs, start the local twin, load the bundled data (DETACH=1: return when ready)
	@$(BIN)/qis up $(if $(DETACH),--detach,) $(ARGS)

down:  ## stop the local twin
	@$(BIN)/qis down

test: install-dev  ## the whole test suite
	@$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

check: install-dev  ## format, lint, types, layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: install-dev  ## write the format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

install: $(VENV)/.local.stamp  ## what `make up` needs, into .venv

install-dev: $(VENV)/.dev.stamp  ## what `make test` and `make check` need, into .venv

$(UV): requirements/tools.txt
	@echo "installing into $(VENV) …" >&2
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/tools.txt
	@touch $(UV)

$(VENV)/.local.stamp: $(UV) requirements/local.txt pyproject.toml
	@echo "installing what runs …" >&2
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/local.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.dev.stamp: $(VENV)/.local.stamp requirements/dev.txt cdk/cli/package-lock.json
	@echo "installing what tests and checks need …" >&2
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m cdk.node --install
	@touch $@

LOCK := $(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11
lock: $(UV)  ## resolve again and write the hashed lock files
	@$(LOCK) $(if $(UPGRADE),--upgrade,) requirements/tools.in -o requirements/tools.txt
	@$(LOCK) $(if $(UPGRADE),--upgrade,) requirements/dev.in -o requirements/dev.txt
	@$(LOCK) -c requirements/dev.txt requirements/local.in -o requirements/local.txt
	@$(LOCK) -c requirements/dev.txt requirements/lambda.in -o requirements/lambda.txt
	@$(LOCK) -c requirements/dev.txt requirements/migrate.in -o requirements/migrate.txt
	@$(LOCK) -c requirements/dev.txt requirements/services.in -o requirements/services.txt

package: install-dev  ## build the Lambda layers and function code for AWS into build/
	@$(BIN)/python scripts/package.py

synth: install-dev  ## CloudFormation of one environment: make synth ENV=dev (quick with CDK_VALIDATION=false)
	@test -n "$(ENV)" || { echo "say which environment: make synth ENV=dev, or local, staging, prod, prod-reference, dr" >&2; exit 2; }
	@$(BIN)/python app.py --env $(ENV) --code stub

generate: install-dev  ## write anew what is made from settings and templates: bills, manifests, pages, the twin's template
	@for module in local_template quantities manifests pages; do $(BIN)/python -m cdk.$$module || exit 1; done

bench: install-dev  ## all benchmarks, one JSON document each
	@for name in ingest events reconcile asof query history coldstart synth; do $(BIN)/qis bench $$name --json || exit 1; done

clean:  ## remove what the build wrote (not the twin's data)
	@rm -rf build cdk.out .mypy_cache .ruff_cache .pytest_cache .hypothesis
