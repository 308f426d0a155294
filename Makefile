# On a fresh machine with Python 3.11 or later, pip and make: `make demo`, `make test`.
# Everything is installed into .venv, again only when pyproject.toml or constraints.txt changed.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
# A stack of the demo's own, whatever other backend this shell knows of.
DEMO := env -u CHISEL_BACKEND_URL -u CHISEL_API_KEY CHISEL_LOCAL_DIR=$(CURDIR)/.demo $(BIN)/chisel

# Without bytecode every command pays its imports again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test install fmt check e2e bench chaos clean

demo: .venv/local.stamp  # the main job: train a network on four simulated GPUs, on services of this machine
	@trap '$(DEMO) down' EXIT; trap 'exit 130' INT TERM; \
	$(DEMO) up && $(DEMO) python docs/examples/digits/digits.py -d docs/examples/digits -a digits --gpu 4

# Most tests wait more than they work, so three parts of them run beside each other.
FAULTS := chaos $(addprefix e2e/test_,doubles.py drain.py failpoints.py full_disks.py kills.py outages.py) traces
PARTS := accounts agent auth cli gateway scheduler shared storage
BESIDE = $(BIN)/pytest $(addprefix tests/,$($(1))) > .$(1).log 2>&1 &

test: check  # everything that .ci/run runs
	@$(call BESIDE,FAULTS) faults=$$!; $(call BESIDE,PARTS) parts=$$!; \
	trap 'kill $$faults $$parts; exit 130' INT TERM; \
	$(BIN)/pytest $(addprefix --ignore=tests/,$(FAULTS) $(PARTS)); first=$$?; \
	wait $$faults; second=$$?; wait $$parts; third=$$?; \
	cat .FAULTS.log .PARTS.log; exit $$((first | second | third))

check: .venv/dev.stamp
	$(BIN)/ruff check -q && $(BIN)/ruff format -q --check && $(BIN)/mypy && $(BIN)/lint-imports

e2e: .venv/dev.stamp
	$(BIN)/pytest tests/e2e

bench: .venv/dev.stamp
	$(BIN)/python -m tests.bench

chaos: .venv/dev.stamp  # about 40 minutes: a thousand faults over two thousand jobs, reported in docs/reliability.md
	$(BIN)/python -m tests.chaos --profile full --publish

fmt: .venv/dev.stamp
	$(BIN)/ruff check -q --fix && $(BIN)/ruff format

install: .venv/dev.stamp

clean:  # stops the demo's stack if one was left running
	[ ! -x $(BIN)/chisel ] || $(DEMO) down
	rm -rf .venv .demo

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Chisel needs Python 3.11 or later; this is %s. Name another: make PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv .venv

.venv/local.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into .venv (with torch: about a minute)"
	$(PIP) -e '.[local,torch]' && touch $@

.venv/dev.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into .venv (with torch: about a minute)"
	$(PIP) -e '.[dev,torch]' && touch $@ .venv/local.stamp
