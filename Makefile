# make report [PROFILE=quick] [RUN=name] [COMPARE="other runs"] | make test | make lab: each sets up what it needs
# On a cluster: make report CLUSTER=slurm [CORES=8] [NODES=feature] [GPU=1] [FLAGS="Snakemake's own"]
PYTHON ?= python3
PROFILE ?= quick
RUN ?= $(PROFILE)
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Text is UTF-8, whatever the locale.
export PYTHONUTF8 := 1

# A user's own configuration of these tools must not change what is installed or run. pip's indexes, proxies and certificates
# are kept.
unexport SNAKEMAKE_PROFILE PYTHONHOME PYTHONSTARTUP PYTHONWARNINGS PYTHONOPTIMIZE PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT \
	PIP_NO_DEPS PIP_DRY_RUN PIP_IGNORE_INSTALLED PIP_REQUIRE_HASHES PIP_REQUIRE_VIRTUALENV PIP_REQUIREMENT PIP_EDITABLE \
	PIP_NO_BUILD_ISOLATION PIP_PYTHON PIP_PRE PIP_REPORT
OWN := $(CURDIR)/build/home
report plan: export IPYTHONDIR := $(OWN)/ipython
report plan: export JUPYTER_CONFIG_DIR := $(OWN)/jupyter
report plan: export JUPYTER_CONFIG_PATH :=
report plan: export JUPYTER_PATH :=
# Where HOME cannot be written, another folder takes its place, and pip still finds its configuration.
ifneq ($(shell test -w "$$HOME" && echo yes),yes)
export PIP_CONFIG_FILE ?= $(wildcard $(HOME)/.config/pip/pip.conf)
PIP_CONFIG_FILE := $(PIP_CONFIG_FILE)
export HOME := $(OWN)
endif

# On a cluster, each step is a job with CORES cores. Jobs that time something run on nodes with one feature, so that all records
# come from one kind of machine.
CORES ?= 8
ifneq ($(CLUSTER),)
ifeq ($(wildcard profiles/$(CLUSTER)/config.yaml),)
$(error There is no cluster profile $(CLUSTER): CLUSTER=slurm is one, and profiles/$(CLUSTER)/config.yaml would be another)
endif
endif
WHERE := $(if $(CLUSTER),--workflow-profile profiles/$(CLUSTER) --cores $(CORES),--cores all) $(FLAGS)

# Snakemake is kept quiet: the notebooks report their own failures, and on a cluster Snakemake reports its jobs. A record is
# written whole or not at all, so an output that exists is complete, even if its step failed afterwards.
PLAN := --config 'run="$(RUN)"' 'profile=$(PROFILE)' $(if $(COMPARE),'compare="$(COMPARE)"') \
	$(if $(NODES),'nodes="$(NODES)"') $(if $(GPU),gpu=$(GPU))
HAS_SLURM = $(if $(filter slurm,$(CLUSTER)),@python -c "import snakemake_executor_plugin_slurm" 2> /dev/null || \
	{ echo "CLUSTER=slurm needs Snakemake's executor for it: .venv/bin/pip install -e '.[slurm]'" >&2; exit 1; })
report: .venv/ready
	@mkdir -p "$(OWN)"
	$(HAS_SLURM)
	$(if $(CLUSTER),@python -c "from cifar_lib import cifar10; cifar10.find()")
	@reason=$$(mktemp -p "$(OWN)"); trap 'rm "$$reason"' EXIT; export REPORT_REASON="$$reason"; \
		snakemake $(WHERE) --keep-incomplete --ignore-incomplete --nolock $(PLAN) \
		$(if $(CLUSTER),--quiet rules host 2>&1,--quiet all 2>> "$$reason") || \
		{ cat "$$reason"; test -s "$$reason" || echo "No report, and no reason given. To see what was planned, run" \
			"make plan PROFILE=$(PROFILE) RUN=$(RUN)$(if $(COMPARE), COMPARE='$(COMPARE)')"; exit 1; } >&2
	@python -m cifar_bench.analysis.verdicts $(RUN)
	@echo "The report: results/$(RUN)/report.html"

# A run for each kind of node, named by its feature; the report of the first compares all of them.
machines:
	$(if $(NODES),,$(error make machines needs NODES="feature feature": a feature of the nodes of each kind))
	@$(foreach kind,$(NODES),$(MAKE) --no-print-directory report RUN=$(RUN)-$(kind) NODES=$(kind) &&) true
	@$(MAKE) --no-print-directory report RUN=$(RUN)-$(firstword $(NODES)) NODES=$(firstword $(NODES)) \
		COMPARE="$(patsubst %,$(RUN)-%,$(wordlist 2,$(words $(NODES)),$(NODES)))"

plan: .venv/ready
	@mkdir -p "$(OWN)"
	$(HAS_SLURM)
	@snakemake --dry-run $(WHERE) --keep-incomplete --ignore-incomplete --nolock all $(PLAN)

# Tests that measure time run alone, the others on two cores.
test: .venv/ready
	@python -m pytest -n 2 --dist worksteal -m "not measures and not ci"
	@python -m pytest -m measures

# As root (in a container, say) JupyterLab starts only with --allow-root. It asks about news unless configured not to.
lab: .venv/ready
	@mkdir -p .venv/lab/labconfig
	@echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}' > .venv/lab/labconfig/default_setting_overrides.json
	@JUPYTER_PATH="$(CURDIR)/.venv/share/jupyter:$$JUPYTER_PATH" JUPYTER_CONFIG_PATH="$(CURDIR)/.venv/lab:$$JUPYTER_CONFIG_PATH" \
		jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) \
		--LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate notebooks

# A .venv that was copied or moved with its clone would run the code of the old place: it is made again.
ifneq ($(shell cat .venv/ready 2> /dev/null),$(CURDIR))
.PHONY: .venv/ready
endif
.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11, 4) <= sys.version_info < (3, 14) else "Python 3.11.4 to 3.13 is needed: set PYTHON=python3.13, say.")'
	@echo "Setting up .venv, about two minutes"
	@mkdir -p "$(OWN)"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/pip install --no-user --target= --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/pip install --no-user --target= --quiet --disable-pip-version-check --no-deps --editable .
	@echo "$(CURDIR)" > $@

.PHONY: report machines plan test lab
