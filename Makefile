PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
BIN := $(VENV)/bin

.PHONY: demo test check lint fuzz clean

demo: $(STAMP)
	$(BIN)/robusteval demo --out runs/demo

test: $(STAMP)
	$(BIN)/pytest -n 2 --dist worksteal

check: lint test

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two minutes of changed files for every reader; bred by atheris where it can be installed.
fuzz: $(STAMP)
	-$(BIN)/pip install --quiet --only-binary :all: atheris==3.0.0
	$(BIN)/python benchmarks/fuzz_readers.py --minutes 2

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs
