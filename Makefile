# make report [PROFILE=quick] [RUN=name] [BESIDE="other runs"] | make test | make lab — each sets up what it needs
PYTHON ?= python3
PROFILE ?= quick
RUN ?= $(PROFILE)
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

# Snakemake is kept quiet, about its own failures too: the notebooks tell theirs. A record is written whole or not at all, so
# what a step left is complete where it is there, even if the step failed after it.
PLAN := --config 'run="$(RUN)"' 'profile=$(PROFILE)' $(if $(BESIDE),'beside=$(BESIDE)')
report: .venv/ready
	@snakemake --cores all --keep-incomplete --ignore-incomplete --nolock --quiet all $(PLAN) || \
		{ echo "No report. If no reason stands above, ask: .venv/bin/snakemake --dry-run $(PLAN)"; exit 1; } >&2
	@python -m cifar_lib.analysis.verdicts $(RUN)
	@echo "The report: results/$(RUN)/report.html"

# What times something by the clock runs alone, the rest on two cores.
test: .venv/ready
	@python -m pytest -n 2 --dist worksteal -m "not measures and not ci"
	@python -m pytest -m measures

# As root, as in containers, JupyterLab wants to be told that this is meant. It asks about news unless a setting says no.
lab: .venv/ready
	@mkdir -p .venv/lab/labconfig
	@echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}' > .venv/lab/labconfig/default_setting_overrides.json
	@JUPYTER_CONFIG_PATH="$(CURDIR)/.venv/lab:$$JUPYTER_CONFIG_PATH" jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) \
		--LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate notebooks

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11, 4) <= sys.version_info < (3, 14) else "Python 3.11.4 to 3.13 is needed: set PYTHON=python3.13, say.")'
	@echo "Setting up .venv, about two minutes"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

.PHONY: report test lab
