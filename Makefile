# Each target sets up what it needs. `make help` lists the targets.
PYTHON ?= python3.11
VENV := .venv
SERVE_VENV := .venv-serve
CLIENT_VENV := .venv-client
CLUSTER_VENV := .venv-cluster
BIN := $(VENV)/bin
MODELS ?= sequential functional subclassing
RECIPE ?=
DATA := $(CIFAR10_DATA)
NAME :=
HEAD :=
OPTIONS :=
BENCH ?=
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help serve cluster client test lowest coverage check format docs lock proto train bench clean

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(SERVE_VENV)/installed ## install the server and run it on CIFAR10_HOST:CIFAR10_PORT
	@exec $(SERVE_VENV)/bin/python -m service

cluster: $(CLUSTER_VENV)/installed ## start a cluster on this machine and serve; HEAD=10.0.0.1:6379 joins one
	@exec $(CLUSTER_VENV)/bin/python -m cluster $(if $(HEAD),join $(HEAD),start) $(OPTIONS)

client: $(CLIENT_VENV)/installed ## install the client and its command line
	@echo "in this folder: $(CLIENT_VENV)/bin/python -m cifar10_serving --help"

test: $(VENV)/installed ## install the test environment and run the tests in two processes
	$(PYTEST)

lowest: $(VENV)/installed ## run serving tests with the lowest versions that pyproject.toml allows
	scripts/check_lowest

coverage: $(VENV)/installed ## run the tests and report the coverage
	$(PYTEST) --cov --cov-report=term

check: $(VENV)/installed ## check formatting, lint, types and generated documents
	scripts/check

format: $(VENV)/installed ## format the code and fix lint errors
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: $(VENV)/installed ## write the generated documents and tables
	$(BIN)/python -m scripts.write_docs

lock: $(VENV)/installed ## compile requirements/*.txt from pyproject.toml
	scripts/lock

proto: $(VENV)/installed ## generate the gRPC messages from their .proto
	scripts/proto

train: $(VENV)/installed ## train and publish MODELS with RECIPE; DATA is CIFAR-10's folder, or one of pictures, with NAME
	for model in $(MODELS); do \
		$(BIN)/python -m training fit $$model $(if $(RECIPE),--recipe $(RECIPE)) $(if $(DATA),--data $(DATA)) \
			$(if $(NAME),--name $(NAME)) $(OPTIONS) || exit 1; \
	done

bench: $(VENV)/installed ## benchmark the service and the alternatives; BENCH=--quick for a part, BENCH=--help for more
	$(BIN)/python -m bench $(BENCH)

clean: ## remove the virtual environments and caches
	rm -rf $(VENV) $(SERVE_VENV) $(CLIENT_VENV) $(CLUSTER_VENV) .venv-lowest .bench .mypy_cache .pytest_cache .ruff_cache .coverage

$(SERVE_VENV)/installed: requirements/serve.txt scripts/install
	PYTHON=$(PYTHON) scripts/install $(SERVE_VENV) requirements/serve.txt

$(CLUSTER_VENV)/installed: requirements/cluster.txt scripts/install
	PYTHON=$(PYTHON) scripts/install $(CLUSTER_VENV) requirements/cluster.txt

$(CLIENT_VENV)/installed: requirements/client.txt scripts/install
	PYTHON=$(PYTHON) scripts/install $(CLIENT_VENV) requirements/client.txt

$(VENV)/installed: requirements/dev.txt scripts/install
	PYTHON=$(PYTHON) scripts/install $(VENV) requirements/dev.txt
