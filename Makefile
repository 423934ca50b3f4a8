# Needs only make and a Python 3.11 or newer with venv; the rest goes into .venv.

PYTHON      ?= python3
PYTEST_ARGS ?= -n 3 --dist loadgroup
BENCH_ARGS  ?=
FAULTS_ARGS ?=
TORTURE_ARGS ?=
SIMULATE_ARGS ?=
FLIPS_ARGS  ?=
POWERCUT_ARGS ?=
SYSCALLS_ARGS ?=
INTERLEAVE_ARGS ?=
LIVES_ARGS  ?=
GUARD_ARGS  ?=
ARGS        ?=

BIN   := .venv/bin
# Touched when .venv holds what pyproject.toml and requirements.lock ask for.
READY := .venv/.ready
UV    := uv==0.13.8

# The parts in C, which are built where there is a compiler: the walker, what unlinks, and what
# reads ahead.
NATIVE := src/lifecycle_sync/observe
UNLINKING := src/lifecycle_sync
READING := src/lifecycle_sync/act
LINES := src/lifecycle_sync/vault

# What takes long on purpose is not asked where it stands: who is asked while at work may crash.
UNTIMED := -o faulthandler_timeout=0

SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

# Settings of the person's own shell must not send the tools to another environment.
export UV_PROJECT_ENVIRONMENT := .venv
export UV_PYTHON_DOWNLOADS := never
unexport VIRTUAL_ENV

.DEFAULT_GOAL := help
.PHONY: help setup run test torture faults plans flips timelines powercut syscalls interleavings lives simulate guard-proof sanitize lint bench format lock clean
.DELETE_ON_ERROR:

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## make .venv with everything the project needs

$(READY): pyproject.toml requirements.lock setup.py $(wildcard $(NATIVE)/native/* $(UNLINKING)/native/* $(READING)/native/* $(LINES)/native/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "This needs Python 3.11 or newer, and '$(PYTHON)' is not one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { \
	  echo "Python could not make .venv (on Debian: apt-get install python3-venv)" >&2; rm -rf .venv; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(UV)'
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	@rm -f $(NATIVE)/_native*.so $(UNLINKING)/_unlinking*.so $(READING)/_reading*.so $(LINES)/_lines*.so
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --reinstall-package lifecycle-sync -e .
	@$(BIN)/python -m compileall -q src
	@touch $@

run: $(READY) ## register, sync and watch DIR=/some/folder, or a sample tree; ARGS=--once
ifdef DIR
	@exec $(BIN)/lifecycle run "$(DIR)" $(ARGS)
else
	@tree=$$($(BIN)/python scripts/sample_tree.py) && \
	  exec $(BIN)/lifecycle run "$$tree" --database "$${tree%/*}/registry.db" $(ARGS)
endif

test: $(READY) ## run the tests; PYTEST_ARGS='-k name'
	@$(BIN)/pytest $(PYTEST_ARGS)

torture: $(READY) ## kill, flood and shake it for some minutes; TORTURE_ARGS="--seeds 100"
	@$(BIN)/pytest -m torture tests/torture $(UNTIMED) $(TORTURE_ARGS)

faults: $(READY) ## kill, fail and swap at every step of every act; FAULTS_ARGS='--workload delete --point 17'
	@$(BIN)/pytest -m faults tests/faults $(UNTIMED) $(if $(FAULTS_ARGS),$(FAULTS_ARGS),-n 4 --dist worksteal)

plans: $(READY) ## apply plans while somebody changes the files; PLAN_SEEDS=2000
	@PLAN_SEEDS=$${PLAN_SEEDS:-2000} $(BIN)/pytest tests/integration/test_applied_subset.py $(PYTEST_ARGS)

# Built apart from the one in use, and its tests told to take it.
sanitize: $(READY) ## the parts in C under the address and undefined-behaviour sanitizers
	@rm -rf build
	@CFLAGS="$(SANITIZE) -Wall -Wextra -Werror -g" LDFLAGS="$(SANITIZE)" \
	  $(BIN)/uv build --quiet --wheel --python $(BIN)/python --out-dir build/sanitize .
	@$(BIN)/python -m zipfile -e build/sanitize/*.whl build/sanitize
	@test -e build/sanitize/$(NATIVE:src/%=%)/_native.abi3.so || { \
	  echo "the parts in C did not compile with these flags; make shows why: $(BIN)/uv build -v" >&2; exit 1; }
	@export LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 \
	  PYTHONPATH=build/sanitize PYTHONMALLOC=malloc; \
	  $(BIN)/python -c 'from lifecycle_sync.observe import _native as it; exit("sanitize" not in it.__file__)' && \
	  $(BIN)/python -m pytest -p no:cacheprovider -m 'torture or not torture' \
	  tests/contract/test_walker.py tests/contract/test_walkers_agree.py tests/torture/test_walker_storm.py \
	  tests/unit/test_disposal.py tests/unit/test_reading_ahead.py \
	  tests/unit/test_held.py

lint: $(READY) ## check style, bans, types and who imports whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(wildcard src tests bench scripts)
	@$(BIN)/lint-imports --no-logo

flips: $(READY) ## flip every byte of a small vault in turn; FLIPS_ARGS='--bits'
	@$(BIN)/python -m scripts.flips $(FLIPS_ARGS)

timelines: $(READY) ## keep rules against their definition, over TIMELINES=10000 histories
	@TIMELINES=$${TIMELINES:-10000} $(BIN)/pytest tests/unit/test_retention.py -k definition -q -rP | grep -E ' timelines in |^E  |passed|failed'

powercut: $(READY) ## cut the power of a real ext4 (and XFS) under the command; POWERCUT_ARGS='--first 7 --cuts 1'
ifneq ($(POWERCUT_ARGS),)
	@$(BIN)/python -m scripts.powercut $(POWERCUT_ARGS)
else
	@$(BIN)/python -m scripts.powercut --cuts 200
	@$(BIN)/python -m scripts.powercut --encrypted --cuts 60
	@$(BIN)/python -m scripts.powercut --deaf
	@$(BIN)/python -m scripts.powercut --lying
	@! command -v mkfs.xfs >/dev/null || $(BIN)/python -m scripts.powercut --filesystem xfs --cuts 100
endif

syscalls: $(READY) ## kill and fail the command at each of its system calls; SYSCALLS_ARGS='--step 5'
	@$(BIN)/python -m scripts.syscalls $(SYSCALLS_ARGS)

interleavings: $(READY) ## two writers, a prune, a verify and a reader in 1,000 orders; INTERLEAVE_ARGS='--first 7 --seeds 1'
	@$(BIN)/python -m scripts.interleave $(INTERLEAVE_ARGS)

lives: $(READY) ## random lives of a root, its vaults and registry, beside a dictionary; LIVES_ARGS='--first 7 --lives 1'
	@$(BIN)/python -m scripts.lives $(LIVES_ARGS)

simulate: $(READY) ## 90 days by random policies over 10,000 files, 200 times; SIMULATE_ARGS="--seeds 3"
	@$(BIN)/python -m scripts.simulate $(SIMULATE_ARGS)

guard-proof: $(READY) ## take each guard out of a copy in turn: a named test must fail
	@$(BIN)/python -m scripts.guard_proof $(GUARD_ARGS)

bench: $(READY) ## measure against the budgets; BENCH_ARGS=...
	@$(BIN)/python -m bench $(BENCH_ARGS)

format: $(READY) ## format the code and mend what ruff can
	@$(BIN)/ruff check --fix --exit-zero --quiet .
	@$(BIN)/ruff format .

lock: $(READY) ## write requirements.lock anew, after a change of dependencies in pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --all-extras --group dev --group bench pyproject.toml --output-file requirements.lock

clean: ## remove everything that is generated, .venv too
	rm -rf .venv build dist src/*.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find src tests bench scripts -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
