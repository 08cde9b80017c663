# Each target does all the set-up it needs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)

TABLES := table1 table3 table4 anchors forms ranks tasks

.PHONY: $(TABLES) tables git setup help repro smol test test-slow test-peer test-kernels test-service service-test gpu chaos hostile lint docs wheel format lock clean

repro: git $(READY)  ## the whole pipeline: raw files to a promoted model and a report
	dvc repro
	@echo 'Open report/report.html. What next: docs/quickstart.md'

help:  ## this list
	@grep -hE '^[$$a-z].*:.*##' $(MAKEFILE_LIST) | sed -E 's/^[$$]\(TABLES\)/$(TABLES)/; s/:[^#]*##/\n   /'

setup: $(READY)  ## the environment alone

$(TABLES): git $(READY)  ## one of the paper's tables on the settings of params.yaml; SEEDS="17 18" in place of tables.seeds
	dvc repro splits base
	python -m pipelines.tables $@ $(SEEDS)

tables: git $(READY)  ## all of them
	dvc repro splits base
	python -m pipelines.tables $(SEEDS)

smol: git $(READY)  ## real small weights on real photos (LEA_REALDATA), under 40 minutes; sets params.yaml to the profile smol
	python -m tools.smol
	lea profile smol
	dvc repro
	@echo 'Open report/report.html. How to read it: docs/tutorial.md, section 6'

test: $(READY)  ## the default tests, minutes, and how much of the code they reach
	pytest -q --cov --cov-report=
	@echo "They reach $$(coverage report --format=total) % of components/ and pipelines/; which lines they do not: coverage report -m"

test-slow: $(READY)  ## whole pipelines, killed workers
	pytest -q -m slow

test-peer: $(READY)  ## the adapters inside other trainers
	pip install -q -c constraints.txt trl datasets
	pytest -q -m peer

test-kernels: $(READY)  ## the Triton kernels, by Triton's interpreter where there is no GPU
	pip install -q triton
	pytest -q tests/adapters/test_fast.py tests/model/test_blocks.py

test-service service-test: $(READY)  ## against servers of their own: S3, Ray nodes that share no disk, MLflow on PostgreSQL
	pip install -q -c constraints.txt -e '.[dev,server]'
	pytest -q -m service

gpu: $(READY)  ## on a CUDA device: the tests that need one, then its figures, into benchmarks/results/gpu.json
	pytest -q -m gpu
	python -m benchmarks.gpu

chaos: $(READY)  ## both training stages under 20 random kills: do they end as if nothing had happened?
	python -m benchmarks.chaos

hostile: $(READY)  ## damaged inputs by the thousand and commands killed at random, into docs/hostile.md
	python -m benchmarks.hostile

lint: $(READY)  ## style, types, and that no package imports from one above it
	ruff check .
	ruff format --check .
	lint-imports --no-cache
	pyright

docs: $(READY)  ## the documentation as a site in site/: strict, without the network
	python -m tools.layers
	python -m tools.errors_page
	python -m tools.results_page
	python -m zensical build --strict

wheel: $(READY)  ## dist/*.whl: all under the one import name local_enhanced_adapters
	pip wheel -q --no-deps --no-build-isolation -w dist .

git:  # DVC runs in a git repository; a downloaded archive is none. Said before anything is installed.
	@git rev-parse --git-dir >/dev/null 2>&1 || grep -qs 'no_scm *= *true' .dvc/config .dvc/config.local || { \
	  echo "error: $(CURDIR) is no git repository, which DVC needs; run: git init (or set no_scm = true under [core] in .dvc/config.local)"; exit 2; }

format: $(READY)
	ruff check --fix .
	ruff format .

# The set-up: a virtual environment with the pinned packages, the project in it, and a DVC repository.
$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not installed; name another, as in: make $(or $(MAKECMDGOALS),repro) PYTHON=python3"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed, as in: make PYTHON=python3.12")'
	test -x $(BIN)/pip || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); } || { rm -rf $(VENV); exit 2; }
	@echo 'installing the packages of constraints.txt, about 3 GB: some minutes'
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $(READY)

lock:  ## renew constraints.txt from a fresh environment
	rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e '.[dev,server]' trl datasets
	head -2 constraints.txt > .constraints && $(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' >> .constraints
	mv .constraints constraints.txt

# By name: what lies beside the outputs is the user's.
clean:  ## outputs and run state; the DVC cache and the registry stay
	rm -rf $(addprefix data/raw/plates_,captions unifood scienceqa flickr30k) data/prepared data/splits
	rm -rf $(addprefix models/,base base_files.json pretrain finetune) report
	rm -rf $(addprefix evaluation/,answers.parquet insight judged measured.json metrics.json plots) registration.json .lea/runs
