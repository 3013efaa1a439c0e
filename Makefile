# Each target does its own set-up: nothing but Python (3.10 or newer), pip and make is needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: install lint test test-gpu fuzz demo clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt requirements-dev.txt requirements-nodeps.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch numpy
	$(BIN)/pip install -q -c constraints.txt -e '.[torch]' -r requirements-dev.txt
	$(BIN)/pip install -q -c constraints.txt --no-deps -r requirements-nodeps.txt
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not gpu"

# 20,000 random networks, folded and compared; BNCHECK_SEED draws others.
fuzz: install
	BNCHECK_NETWORKS=20000 $(BIN)/python -m pytest -n 2 -q tests/convert/test_fold_networks.py

test-gpu: install
	$(BIN)/python -m pytest -m gpu

demo: install
	$(BIN)/python benchmarks/demo.py

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build demo-output
