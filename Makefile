# Everything starts here: `make help` lists the targets. Needs only python >= 3.11, make and git.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
PROFILE ?= quick
JOBS ?= 1
ARGS ?=
# Which builds of torch the set-up takes: cpu (small, no CUDA), auto (those that fit the driver); empty: what the lock says.
TORCH ?=
# The first interpreter that is new enough; set PYTHON=... to choose another one.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)

BIN := $(VENV)/bin
PY := $(BIN)/python
UV := $(BIN)/uv
STAMP := $(VENV)/.course-ready
# Allocator and thread settings have to be in place before a process starts, so they are put in front of it.
WITH_ENV := eval "$$($(BIN)/course env)";
LOCK_EXTRAS := --extra dev

.PHONY: help setup course test lab demo site train bench lint format lock clean

help: ## show this list
	@echo "usage: make TARGET [NAME=...] [PROFILE=quick|cpu|gpu] [JOBS=1] [ARGS=...]"; echo
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  \1|\2/' | while IFS='|' read -r name text; do \
		printf '%-10s %s\n' "$$name" "$$text"; done

setup: $(STAMP) ## make the virtual environment (the other targets do it for you)

course: $(STAMP) ## execute all notebooks headlessly; pages and summary go to runs/<time>/
	@$(BIN)/course run all --profile $(PROFILE) --jobs $(JOBS) $(ARGS)

test: $(STAMP) ## run every test, the notebooks included
	@$(WITH_ENV) $(PY) -m pytest $(ARGS)

lab: $(STAMP) ## open JupyterLab on the notebooks
	@test "$$(id -u)" != 0 -o -n "$(findstring --allow-root,$(ARGS))" || { \
		echo "JupyterLab does not start as root unless it is told to: make lab ARGS=--allow-root" >&2; exit 2; }
	@$(WITH_ENV) $(BIN)/jupyter lab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks $(ARGS)

demo: $(STAMP) $(VENV)/.demo-ready ## serve the demo of notebook 05 as a web page
	@$(WITH_ENV) $(BIN)/voila demo/unpaired_translation.ipynb $(ARGS)

site: $(STAMP) $(VENV)/.site-ready ## build the course as web pages in runs/site
	@$(WITH_ENV) $(PY) docs/sphinx/build.py

# A quick training would only be thrown away, so this target's own default is cpu.
train: TRAIN_PROFILE = $(if $(filter file,$(origin PROFILE)),cpu,$(PROFILE))
train: $(STAMP) ## train a shipped checkpoint from scratch: make train NAME=... PROFILE=cpu
	@test -n "$(NAME)" || { $(BIN)/course train --list; echo "choose one: make train NAME=..." >&2; exit 2; }
	@$(BIN)/course train $(NAME) --profile $(TRAIN_PROFILE) $(ARGS)

bench: $(STAMP) $(VENV)/.bench-ready ## measure our flow against four other libraries
	@$(WITH_ENV) $(PY) -m benchmarks $(ARGS)

lint: $(STAMP) ## check code style and the notebooks' structure
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(PY) -m tools.notebook_lint

format: $(STAMP) ## let ruff put code and notebooks into shape
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

lock: $(STAMP) ## resolve pyproject.toml again into requirements.lock
	$(UV) pip compile pyproject.toml $(LOCK_EXTRAS) --universal --python-version 3.11 --generate-hashes --upgrade \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet --output-file requirements.lock

clean: ## remove the virtual environment and what can be rebuilt (runs/ is kept)
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache .hypothesis *.egg-info

# The stamp is written last, so an interrupted set-up starts again. pip is only there to fetch uv; should uv find no
# package index (it does not read pip's configuration), pip installs the same locked files.
$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "python 3.11 or newer is needed and was not found; set PYTHON=/path/to/python" >&2; exit 2; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { \
		rm -rf $(VENV); echo "python could not make a virtual environment; on Debian or Ubuntu install python3-venv" >&2; exit 2; }
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(VENV) was made with an older python; remove it (make clean) and try again" >&2; exit 2; }
	@test -x $(UV) || { $(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null; $(PY) -m pip install -q 'uv>=0.7'; }
	@echo "installing the course into $(VENV) (several minutes and some gigabytes the first time)"
	@if test -n "$(TORCH)"; then $(UV) pip install -q --python $(PY) --torch-backend=$(TORCH) --no-verify-hashes \
		--constraint requirements.lock --extra dev -r pyproject.toml; \
	else $(UV) pip install -q --python $(PY) --require-hashes -r requirements.lock; fi || { \
		test -z "$(TORCH)" || exit 1; \
		echo "uv could not install; trying pip with its own configuration" >&2; \
		$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null; \
		$(PY) -m pip install -q --require-hashes -r requirements.lock; }
	@$(UV) pip install -q --python $(PY) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.demo-ready: $(STAMP)
	@$(UV) pip install -q --python $(PY) --constraint requirements.lock --no-build-isolation -e '.[demo]'
	@touch $@

$(VENV)/.site-ready: $(STAMP)
	@$(UV) pip install -q --python $(PY) --constraint requirements.lock --no-build-isolation -e '.[site]'
	@touch $@

$(VENV)/.bench-ready: $(STAMP)
	@$(UV) pip install -q --python $(PY) --constraint requirements.lock --no-build-isolation -e '.[bench]'
	@touch $@
