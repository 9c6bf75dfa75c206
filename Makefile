# Sluice on a fresh machine: `make demo` and `make test`. Needs Linux on x86-64, Python 3.11+, pip and make; nothing else.
#
# Two environments (docs/adr/0005): .venv holds the gateway (numpy 2), .venv-triton holds Triton, the engines that models
# use inside it, and Triton's own clients (numpy 1.26; requirements/ says why). Both are made on first use.
# The tests add .venv-servers (S3 and MLflow servers) and .venv-jobs (torch, Optuna, Ray, …), the load tests .venv-load (locust).

PYTHON ?= python3
# The interpreter for .venv-triton: 3.11 or 3.12 with a shared library; found by itself if not named.
TRITON_PYTHON ?=
export TRITON_PYTHON

VENV := .venv/bin
# What is tested a second time, compiled (docs/adr/0018); the one left out puts a stand-in for a compiled neighbour.
COMPILED := tests/gateway tests/simulation --ignore tests/gateway/backends/test_triton.py
CODE := gateway quantize jobs tests tools benchmarks loadtests

.DEFAULT_GOAL := help
.PHONY: help setup compile servers jobs models demo test check lint types format bench loadtest loadtest-ui quantize-demo resnet50 train-demo clean distclean
.SILENT:

help: ## show this list
	awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## create or update .venv and .venv-triton (safe to repeat)
	command -v $(PYTHON) > /dev/null || { echo "setup: $(PYTHON) was not found; name one: make setup PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) tools/setup_environment.py gateway
	$(PYTHON) tools/setup_environment.py triton

compile: setup ## compile what every request passes through, if there is a C compiler (docs/adr/0018)
	$(VENV)/python tools/compile.py

models: setup ## fetch the artifacts that are too large to commit (checked by sha256)
	$(VENV)/python tools/fetch_artifacts.py model_repo

demo: compile models ## run the gateway with a real Triton and the demo models, until Ctrl-C
	exec $(VENV)/sluice serve --demo

servers: ## create or update .venv-servers: the S3 and MLflow servers that tests start
	$(PYTHON) tools/setup_environment.py servers

jobs: setup ## create or update .venv-jobs: training, search and pipelines
	$(PYTHON) tools/setup_environment.py jobs

test: compile servers jobs models ## run every test (real gateway, real Triton, real S3 and MLflow servers)
	$(VENV)/python -m pytest -n 2 --dist loadfile
	if $(VENV)/python tools/compile.py --possible; then SLUICE_COMPILED=1 $(VENV)/python -m pytest -n 2 $(COMPILED); fi
	.venv-jobs/bin/python -m pytest tests/training

lint: setup
	$(VENV)/ruff check $(CODE)
	$(VENV)/ruff format --check $(CODE)

types: setup
	$(VENV)/mypy

check: lint types test ## lint, types and tests: what CI runs

format: setup ## format the code and mend what ruff can mend
	$(VENV)/ruff format $(CODE)
	$(VENV)/ruff check --fix $(CODE)

bench: compile ## compare with talking to Triton directly (needs h2load and wrk; other work on the machine disturbs it)
	command -v h2load > /dev/null && command -v wrk > /dev/null || { echo "bench: h2load and wrk are needed (Debian: apt install nghttp2-client wrk)"; exit 2; }
	$(VENV)/python -m benchmarks.run

loadtest: compile models ## two minutes of locust over REST and gRPC with a verdict (HOST=name tests a running gateway)
	$(PYTHON) tools/setup_environment.py load
	$(VENV)/python -m loadtests.run

loadtest-ui: compile models ## the same users on locust's own page, http://127.0.0.1:8089
	$(PYTHON) tools/setup_environment.py load
	$(VENV)/python -m loadtests.run --ui

quantize-demo: compile models ## INT8: publish three real models, refuse two (reports in .cache/quantize)
	$(VENV)/python -m tools.quantize_demo

resnet50: setup jobs ## train ResNet-50 on Fashion-MNIST (15 minutes of CPU), make it INT8, compare (ARGS="--epochs 20 --device cuda …")
	$(VENV)/python -m tools.models.make_resnet50 $(ARGS)

train-demo: compile jobs models ## train, quantize, publish and release by evidence; then a faulty model, rolled back (ARGS="--json …")
	exec .venv-jobs/bin/python -m tools.train_demo $(ARGS)

clean: ## remove caches and run-time files
	rm -rf .cache .sluice .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean ## remove the environments too
	rm -rf .venv .venv-triton .venv-servers .venv-load .venv-jobs
