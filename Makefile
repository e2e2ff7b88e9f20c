# make report [PROFILE=quick] [RUN=name] [COMPARE="other runs"] | make test | make lab: each sets up what it needs
# On a cluster: make report CLUSTER=slurm [CORES=8] [NODES=feature] [GPU=1] [FLAGS="Snakemake's own"]
# Assigned here, so that only what is given on make's command line counts, not what the environment calls so.
$(if $(findstring e,$(filter-out --%,$(firstword -$(MAKEFLAGS)))),$(error make -e lets the environment change this Makefile's \
	variables: leave -e out))
PYTHON = python3
PROFILE = quick
RUN = $(PROFILE)
$(foreach name,COMPARE CLUSTER CORES NODES GPU FLAGS,$(eval $(name) =))
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Text is UTF-8, whatever the locale.
export PYTHONUTF8 := 1

# A user's own configuration of these tools must not change what runs.
unexport SNAKEMAKE_PROFILE PYTHONHOME PYTHONSTARTUP PYTHONWARNINGS PYTHONOPTIMIZE
OWN := $(CURDIR)/build/home
# Where HOME cannot be written, another folder takes its place.
USERS_HOME := $(HOME)
export HOME := $(if $(shell test -w "$$HOME" && echo yes),$(HOME),$(OWN))

# requirements.lock decides what is installed, and .venv is where. Of pip's settings, only those count that say how to fetch
# packages: they become variables, and pip reads no other. (The settings quiet, user, site and global would change what pip lists.)
FETCHING := index-url|extra-index-url|find-links|no-index|proxy|cert|client-cert|trusted-host|timeout|default-timeout|retries|$\
	cache-dir|keyring-provider
SETTINGS = HOME="$(USERS_HOME)" PIP_QUIET=0 PIP_USER=0 PIP_SITE=0 PIP_GLOBAL=0 $(BIN)/pip --python $(BIN)/python config list | \
	sed 's/^:env:/variable/' | sort | sed -nE 's/^(global|install|variable)\.($(FETCHING))=/PIP_\2=/; T; s/\\n/ /g; :next; $\
	s/^([^=]*)-/\1_/; t next; p' | tr '\n' ' '
PIP = eval "env $(patsubst %,-u %,PYTHONPATH $(filter PIP_%,$(.VARIABLES))) PIP_CONFIG_FILE=/dev/null $$($(SETTINGS))" \
	$(BIN)/pip install --quiet --disable-pip-version-check

# On a cluster, each step is a job with CORES cores, by default those of the smallest node. Jobs that time something run on nodes
# with one feature, so that all records come from one kind of machine.
$(if $(CLUSTER),$(if $(wildcard profiles/$(CLUSTER)/config.yaml),,$(error There is no cluster profile $(CLUSTER): CLUSTER=slurm \
	is one, and profiles/$(CLUSTER)/config.yaml would be another)))

# Snakemake is kept quiet: the notebooks report their own failures, and on a cluster Snakemake reports its jobs. A record is
# written whole or not at all, so an output that exists is complete, even if its step failed afterwards.
SNAKEMAKE = IPYTHONDIR="$(OWN)/ipython" JUPYTER_CONFIG_DIR="$(OWN)/jupyter" JUPYTER_CONFIG_PATH= JUPYTER_PATH= \
	snakemake $(if $(CLUSTER),--workflow-profile profiles/$(CLUSTER),--cores all) $(FLAGS) \
	--keep-incomplete --ignore-incomplete --nolock --max-checksum-file-size 10000000000 --config 'run="$(RUN)"' 'profile=$(PROFILE)' \
	$(if $(COMPARE),'compare="$(COMPARE)"') $(if $(CLUSTER),cores=$(or $(CORES),0)) $(if $(NODES),'nodes="$(NODES)"') \
	$(if $(GPU),gpu=$(GPU))
# Make tells its children of SIGTERM, but not of other signals, so Snakemake watches make; the shell waits for Snakemake's end.
WAIT := trap : TERM INT HUP
report: .venv/ready $(if $(filter slurm,$(CLUSTER)),executor)
	@mkdir -p "$(OWN)"
	@reason=$$(mktemp -p "$(OWN)"); trap 'rm "$$reason"' EXIT; $(WAIT); export REPORT_REASON="$$reason"; \
		$(SNAKEMAKE) $(if $(CLUSTER),--quiet rules host 2>&1,--quiet all 2>> "$$reason") || \
		{ cat "$$reason"; $(if $(CLUSTER),,test -s "$$reason" || echo "No report, and no reason given. To see what was planned, run" \
			"make plan PROFILE=$(PROFILE) RUN=$(RUN)$(if $(COMPARE), COMPARE='$(COMPARE)')";) exit 1; } >&2
	@python -m cifar_bench.analysis.verdicts $(RUN)
	@echo "The report: results/$(RUN)/report.html"

# A run for each kind of node, named by its feature; the report of the first compares all of them.
machines:
	$(if $(NODES),,$(error make machines needs NODES="feature feature": a feature of the nodes of each kind))
	@$(WAIT); $(foreach kind,$(NODES),$(MAKE) --no-print-directory report RUN=$(RUN)-$(kind) NODES=$(kind) &&) true
	@$(MAKE) --no-print-directory report RUN=$(RUN)-$(firstword $(NODES)) NODES=$(firstword $(NODES)) \
		COMPARE="$(patsubst %,$(RUN)-%,$(wordlist 2,$(words $(NODES)),$(NODES)))"

plan: .venv/ready $(if $(filter slurm,$(CLUSTER)),executor)
	@$(SNAKEMAKE) --dry-run

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
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 15) else "Python 3.11 to 3.14 is needed: give make PYTHON=python3.13, say.")'
	@echo "Setting up .venv, about two minutes"
	@mkdir -p "$(OWN)"
	@$(PYTHON) -m venv --clear .venv
	@$(PIP) -r requirements.lock
	@$(PIP) --no-deps --editable .
	@$(BIN)/python -I -c "import cifar_bench, papermill, snakemake, torch"
	@echo "$(CURDIR)" > $@

# Snakemake's executor for Slurm.
executor: .venv/ready
	@python -c "import snakemake_executor_plugin_slurm" 2> /dev/null || $(PIP) --constraint requirements.lock --editable '.[slurm]'

.PHONY: report executor machines plan test lab
