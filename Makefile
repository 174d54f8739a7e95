# Every command of the course. "make help" lists them; each sets up .venv first, once.
PYTHON      ?= python3
VENV        ?= .venv
PORT        ?= 8888
# Where JupyterLab listens; 0.0.0.0 in a container alone
IP          ?= 127.0.0.1
# What is installed beside the course itself, of pyproject.toml's extras
EXTRAS      ?= dev,runtime
# Where pip takes torch and torchvision from, if not from its usual place (README: machines without a GPU).
TORCH_INDEX ?=
# Extra arguments: make test ARGS="-k masks", make course ARGS=01
ARGS        ?=
# Processes that test side by side; 0: this one alone
WORKERS     ?= auto

READY := $(VENV)/.ready
SITE  := $(VENV)/.site
BIN   := $(VENV)/bin
# A saved notebook keeps its widgets' state, so that a painter shows its mask before any kernel runs.
SETTINGS := $(VENV)/share/jupyter/lab/settings
# JupyterLab's own images among outputs have no alternative text; this extension gives them one.
DESCRIBED := $(VENV)/share/jupyter/labextensions/inpainting-course-alt-text
FIRST := /lab/tree/my-notebooks/00_welcome.ipynb
ROOT  := $(if $(filter 0,$(shell id -u)),--allow-root)

.DEFAULT_GOAL := help
.PHONY: help setup lab class test test-all course site check format doctor clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: $(READY)  ## create .venv and install the course in it

lab: $(READY)  ## open your own copies of the notebooks in JupyterLab, at chapter 00
	$(BIN)/course copies
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/jupyter lab --ip=$(IP) --port=$(PORT) $(ROOT) --LabApp.default_url=$(FIRST) $(ARGS)

class: $(VENV)/.class-ready  ## start a class on this machine: a hub, a shared engine, results (ARGS=--help)
	$(BIN)/python -m classroom $(ARGS)

test: $(SITE)  ## run every test
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

course: $(READY)  ## execute every chapter and solution and write its outputs back
	$(BIN)/course run $(ARGS)

site: $(SITE)  ## build the pages of the course, and the one that paints in a browser, in build/site
	$(BIN)/python -m docs.site.build $(ARGS)

test-all: export COURSE_TEST_ALL = 1
test-all: test  ## run every test, and every chapter also in a kernel and against the small Hub

check: $(SITE)  ## lint, types, import contracts, JavaScript; prints the lines of each package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python
	PATH="$$PATH:$(abspath $(BIN))" npm run --silent check
	@$(BIN)/python tests/support/count_lines.py

format: $(READY)  ## format code and notebooks
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

doctor: $(READY)  ## say what this machine has and what to type next
	$(BIN)/course doctor

clean:  ## remove .venv and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache *.egg-info

# constraints.txt pins what was tested. torch comes first, and alone, when its index is named: the two indexes never mix.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "The course needs Python 3.11 or newer; $(PYTHON) is older or absent. Try: make PYTHON=python3.12 lab"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Installing the course in $(VENV): some minutes the first time, nothing later."
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --no-deps -c constraints.txt --index-url $(TORCH_INDEX) torch torchvision)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@$(BIN)/jupyter labextension disable --level=sys_prefix "@jupyterlab/apputils-extension:announcements" >/dev/null 2>&1 || true
	@mkdir -p $(SETTINGS) && printf '%s\n' '{"@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": true}}' > $(SETTINGS)/overrides.json
	@mkdir -p $(dir $(DESCRIBED)) && ln -sfn $(CURDIR)/helpers/widgets/lab/inpainting-course-alt-text $(DESCRIBED)
	@touch $(READY)

# What only the site and the tests need. npm is the machine's own, or the one in .venv; package.json pins what it installs.
$(SITE): $(READY) package.json
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[site]'
	@PATH="$$PATH:$(abspath $(BIN))" npm install --no-package-lock --ignore-scripts --silent --no-audit --no-fund && touch $(SITE) || \
	  echo "The JavaScript packages are missing: what needs them cannot be built or tested."

$(VENV)/.class-ready: $(READY)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS),class]'
	npm install --no-save --no-package-lock --silent --no-audit --no-fund configurable-http-proxy@5.3.0
	@touch $@
