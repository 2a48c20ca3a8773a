PYTHON ?= python3
VENV := .venv
RUNS := $(VENV)/.installed
STAMP := $(VENV)/.developed
BIN := $(VENV)/bin
EXTRAS := .venv-extras
SITE := .venv-site/.installed

.PHONY: demo test check lint fuzz extras first-hour wheel site notebooks versions clean

demo: $(RUNS)
	$(BIN)/robusteval demo --out runs/demo

test: $(STAMP)
	$(BIN)/pytest -n 2 --dist worksteal

# The tests that need another package, in an environment of their own: onnx, timm, torchvision, transformers, ray, s3fs.
extras: $(EXTRAS)/.installed
	$(EXTRAS)/bin/pytest tests/models/test_onnx.py tests/models/test_onnx_proofs.py tests/models/test_libraries.py tests/models/test_properties.py \
		tests/hostile/test_hostile_graphs.py tests/hostile/test_hostile_folders.py tests/auditing/test_ray.py \
		tests/results/test_runs_on_s3.py
	$(EXTRAS)/bin/pytest tests/hostile/test_fuzzed_readers.py -k onnx

check: lint test

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two minutes of changed files for every reader, bred by atheris where it can be installed, and two of random networks
# whose proofs are attacked.
fuzz: $(STAMP)
	-$(BIN)/pip install --quiet --only-binary :all: atheris==3.0.0
	$(BIN)/python benchmarks/fuzz_readers.py --minutes 2
	$(BIN)/python benchmarks/fuzz_proofs.py --minutes 2

# What people get: built apart from the checkout, installed beside the same libraries, and tried there.
wheel: $(RUNS)
	rm -rf build dist
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	$(PYTHON) -m venv --clear dist/venv
	dist/venv/bin/pip install --quiet --no-deps dist/*.whl
	echo "$(abspath $(VENV))/lib/$$($(BIN)/python -c 'import sys; print(f"python{sys.version_info.major}.{sys.version_info.minor}")')/site-packages" \
		> $$(dist/venv/bin/python -c 'import site; print(site.getsitepackages()[0])')/beside.pth
	cd dist && venv/bin/python -c 'import robusteval; assert "dist" in robusteval.__file__, robusteval.__file__'
	cd dist && venv/bin/robusteval demo --limit 3 --protocol certify --out demo

# A new user's first hour, of the wheel: every format of models and data, and the usual mistakes, a process each.
first-hour: wheel $(EXTRAS)/.installed
	$(EXTRAS)/bin/python -c 'import site; print(site.getsitepackages()[0])' \
		> $$(dist/venv/bin/python -c 'import site; print(site.getsitepackages()[0])')/beside.pth
	cd dist && venv/bin/python ../benchmarks/first_hour.py

# The documentation as pages, build/site: notebooks executed, no warnings, every block of the tutorials run.
site: $(SITE) $(STAMP)
	.venv-site/bin/python site/notebooks.py --check
	NO_MKDOCS_2_WARNING=1 .venv-site/bin/mkdocs build --quiet --strict
	PYTHONPATH=tests $(BIN)/pytest -p conftest -n 2 site

notebooks: $(SITE)
	.venv-site/bin/python site/notebooks.py

# Python 3.11 to 3.13, and the oldest allowed dependencies: by night, not in .ci/run.
versions:
	.ci/versions

# An environment of its own, which sees the libraries of the other.
$(SITE): pyproject.toml constraints-site.txt $(RUNS)
	$(PYTHON) -m venv --clear .venv-site
	.venv-site/bin/python -c 'import tomllib; \
		print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' > .venv-site/docs.txt
	.venv-site/bin/pip install --quiet --constraint constraints-site.txt --requirement .venv-site/docs.txt
	$(BIN)/python -c 'import site; print(site.getsitepackages()[0], "$(abspath .)", sep="\n")' \
		> $$(.venv-site/bin/python -c 'import site; print(site.getsitepackages()[0])')/beside.pth
	touch $(SITE)

$(RUNS): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $(RUNS)

$(STAMP): $(RUNS) tests/axe.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	# axe-core, which looks at the pages; where it cannot be fetched its tests are skipped and say so.
	-$(BIN)/pip install --quiet --no-deps --require-hashes --requirement tests/axe.txt
	touch $(STAMP)

$(EXTRAS)/.installed: pyproject.toml constraints.txt constraints-extras.txt
	$(PYTHON) -m venv $(EXTRAS)
	$(EXTRAS)/bin/pip install --quiet --constraint constraints.txt torch
	$(EXTRAS)/bin/pip install --quiet --constraint constraints.txt --constraint constraints-extras.txt \
		--editable '.[dev,extras]'
	touch $@

clean:
	rm -rf $(VENV) $(EXTRAS) .venv-site .venv-versions runs build dist
