# `make demo` and `make test` each set up .venv by themselves; `make` alone lists what there is.
PYTHON ?= python3
VENV := .venv
# Windows keeps programs elsewhere.
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test coverage check format docs bench fuzz torture gpu dist clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("tapetum needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(STAMP)  ## the main job end to end on handwritten digits (under a minute once set up)
	$(BIN)/tapetum demo

# Threads that spin while they wait would take the cores from the other test processes; tests/conftest.py says the order.
TESTS := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -m 'not slow' \
  -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: check  ## every check and every test, in a process more than there are cores
	$(TESTS)

coverage: $(STAMP)  ## the tests once more, and which lines of src/ none of them runs (half as long again)
	$(BIN)/python -m pip install --quiet pytest-cov
	$(TESTS) --timeout 900 --cov --cov-report=term-missing:skip-covered

check: $(STAMP)  ## format, lint, types, import contract
	$(BIN)/ruff format --check src tests benchmarks torture
	$(BIN)/ruff check src tests benchmarks torture
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP)  ## put the source into shape
	$(BIN)/ruff format src tests benchmarks torture
	$(BIN)/ruff check --fix src tests benchmarks torture

docs: $(STAMP)  ## the site, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(STAMP)  ## the slow trainings and the speed ratios (hours)
	$(BIN)/python -m pytest -m slow
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/accuracy.py MNIST --networks lenet5-1998 --set recipe=paper --seeds 3

fuzz: $(STAMP)  ## decode 100,000 mutated pictures (some minutes)
	$(BIN)/python torture/fuzz.py

torture: $(STAMP)  ## kills, flips, bombs and odd input by the hundred: a line a promise (long)
	OMP_WAIT_POLICY=passive $(BIN)/python torture/torture.py

gpu: $(STAMP)  ## whether this machine's GPUs compute what its processor does, how fast, and together (some minutes)
	$(BIN)/python benchmarks/gpu.py

dist: $(STAMP)  ## wheel and source archive into dist/, what a package index would refuse in them, and the workflow linted
	$(BIN)/python -m pip install --quiet build twine check-wheel-contents check-jsonschema zizmor
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zizmor --offline --quiet .github

clean:  ## remove what the targets above made
	rm -rf $(VENV) dist build site tapetum-demo .pytest_cache .mypy_cache .ruff_cache
