# make demo    the whole way on the demo clip; DEMO_ARGS="edit=nada_sketch" changes it
# make test    all tests; PYTEST_ARGS="-k warp" picks some
# make lint    ruff and mypy
# make bench   time and memory of everything on this machine; BENCH_ARGS="--only steps" measures a part
# make setup   only the virtual environment (what the others do first)

PYTHON ?= python3
VENV ?= .venv
DEMO_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
TEST_PROCESSES ?= 2

RUN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := demo
.PHONY: setup demo test lint bench

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml requirements.txt
	test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --disable-pip-version-check -c requirements.txt -e ".[dev]"
	touch $@

demo: $(INSTALLED)
	$(RUN)/python train.py $(DEMO_ARGS)

# One thread for each process: more would fight over the cores. A file stays in one process, for its fixtures.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 WANDB_MODE=offline WANDB_ERROR_REPORTING=false \
		$(RUN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

lint: $(INSTALLED)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy tempcons train.py experiments tests

bench: $(INSTALLED)
	$(RUN)/python -m experiments.bench $(BENCH_ARGS)
