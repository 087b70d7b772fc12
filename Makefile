# Two commands do everything on a fresh machine with Python >= 3.11 and make:
#   make demo    two training runs, watched, and then a live page to look at
#   make test    all tests
# Both set up .venv from pinned versions first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# One thread: the models of tests and demo are tiny, and threads would only wait for each other.
export OMP_NUM_THREADS ?= 1
JOBS ?= 2

.PHONY: demo test lint serve bench bench-gpu bench-service fuzz system dashboards clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed-demo  ## train two runs under observation, then keep the page up
	@$(BIN)/python examples/demo.py $(ARGS)

test: $(VENV)/.installed-dev system  ## every test, in JOBS processes; ARGS go to pytest
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

lint: $(VENV)/.installed-dev  ## style, types, import contracts, dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry lib service

serve: $(VENV)/.installed-demo  ## the service alone; ARGS go to `penaltyscope serve`
	@$(BIN)/penaltyscope serve $(ARGS)

bench: $(VENV)/.installed-bench  ## measure on this machine and print one table
	@$(BIN)/python -m benchmarks --json benchmarks/results/cpu.json $(ARGS)

bench-gpu: $(VENV)/.installed-demo  ## the same for what holds on a GPU
	@$(BIN)/python -m benchmarks.gpu --json benchmarks/results/gpu.json $(ARGS)

fuzz: $(VENV)/.installed-dev  ## a million inputs against decoding; writes docs/fuzzing.md
	@$(BIN)/python -m tests.fuzz --record docs/fuzzing.md $(ARGS)

bench-service: $(VENV)/.installed-bench system  ## the service beside its peers; ARGS: --json FILE
	@$(BIN)/python -m benchmarks.service $(ARGS)

system:  ## Prometheus, Alertmanager, Chromium and Node.js, where they can be installed
	@tests/install_real_parts.sh

dashboards: $(VENV)/.installed-dev  ## write the dashboards' JSON anew
	@$(BIN)/python -m dashboards.build

clean:  ## forget the environment
	rm -rf $(VENV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "Python >= 3.11 is needed, this is %d.%d. Name another: make PYTHON=python3.12" % v[:2])'
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

# The tests' environment holds all that the demo needs.
$(VENV)/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing penaltyscope[$*] and what it needs, pinned by constraints.txt; the first time takes a few minutes ..."
	@$(PIP) install --quiet -c constraints.txt -e '.[$*]'
	@echo "Compiling what the service runs for every request ..."
	@$(BIN)/python -c 'import penaltyscope_service.app, penaltyscope_service.kernel as k; k.compile_kernels()'
	@touch $@
