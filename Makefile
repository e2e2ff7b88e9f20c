# make report [PROFILE=quick] [RUN=name] [BESIDE="other runs"] | make test | make lab — each sets up what it needs
PYTHON ?= python3
PROFILE ?= quick
RUN ?= $(PROFILE)
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

# Snakemake is kept quiet, about its own failures too: the notebooks tell theirs.
PLAN := --config 'run="$(RUN)"' 'profile=$(PROFILE)' $(if $(BESIDE),'beside=$(BESIDE)')
report: .venv/ready
	@snakemake --cores all --rerun-incomplete --nolock --quiet all $(PLAN) || \
		{ echo "No report. If no reason stands above, ask: .venv/bin/snakemake --dry-run $(PLAN)"; exit 1; } >&2
	@python -m cifar_lib.verdicts $(RUN)
	@echo "The report: results/$(RUN)/report.html"

test: .venv/ready
	@python -m pytest

lab: .venv/ready
	@jupyter lab notebooks

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11, 4) <= sys.version_info < (3, 14) else "Python 3.11.4 to 3.13 is needed: set PYTHON=python3.13, say.")'
	@echo "Setting up .venv, about two minutes"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

.PHONY: report test lab
