PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
BIN := $(VENV)/bin

EXTRAS := .venv-extras

.PHONY: demo test extras check lint clean

demo: $(STAMP)
	$(BIN)/robusteval demo --out runs/demo

test: $(STAMP)
	$(BIN)/pytest -n 2 --dist worksteal

# The tests of models that need another package, in an environment of their own: onnx, timm, torchvision, transformers.
extras: $(EXTRAS)/.installed
	$(EXTRAS)/bin/pytest tests/models/test_onnx.py tests/models/test_libraries.py tests/models/test_properties.py

check: lint test

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

$(EXTRAS)/.installed: pyproject.toml constraints.txt constraints-extras.txt
	$(PYTHON) -m venv $(EXTRAS)
	$(EXTRAS)/bin/pip install --quiet --constraint constraints.txt torch
	$(EXTRAS)/bin/pip install --quiet --constraint constraints.txt --constraint constraints-extras.txt \
		--editable '.[dev,extras]'
	touch $@

clean:
	rm -rf $(VENV) $(EXTRAS) runs
