"""`make report` on a cluster: a job for each step, which can be killed; steps that time something have a node for themselves.

Needs Debian's slurm-wlm and munge.
"""

import json
import subprocess
import time
from pathlib import Path

import pytest
from clones import STEP, clone, environment, use_synthetic_data
from slurm import slurm

EPOCHS = 10
PROFILE = f"""
seeds: [0, 1]
minutes: {{1_train: 1, 2_export: 1, 3_latency: 1, 4_half_precision: 1, 5_faster: 1, 6_report: 1}}
train: {{epochs: {EPOCHS}, train_images: 1500, test_images: 100, width: 8}}
weights: trained
export: {{}}
latency: {{}}
half_precision: {{}}
faster: {{}}
"""
# Python runs this when it starts. Snakemake asks for the state of jobs less and less often, down to every three minutes; here
# every second. Training runs are real; the other steps, which are the same on a cluster as elsewhere, only write their files.
SITECUSTOMIZE = f"""
import os, sys

if any("snakemake" in argument for argument in sys.orig_argv):
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

    RemoteExecutor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, seconds: None)
elif "cifar_bench.notebook.execute" in sys.orig_argv and "notebooks/1_train.ipynb" not in sys.orig_argv:
    sys.argv = sys.orig_argv
    try:
        exec({STEP!r})
    except SystemExit as end:
        os._exit(end.code)
elif {{"nbconvert", "cifar_bench.analysis.verdicts"}} & {{*sys.orig_argv}}:
    os._exit(0)
"""
# Without accounting squeue tells the state of jobs; CORES=1 lets two jobs run at once.
COMMAND = ["make", "report", "PROFILE=small", "RUN=cluster", "CLUSTER=slurm", "CORES=1", "NODES=here",
           "FLAGS=--slurm-status-command squeue --latency-wait 5"]


def jobs() -> dict[str, tuple[str, str]]:
    """The id, the state and whether the node may be shared, for each job, by its rule and wildcards."""
    listed = subprocess.run(["squeue", "--noheader", "--format=%k|%i|%t|%h"], check=True, capture_output=True, text=True).stdout
    return {comment.strip(): tuple(rest) for comment, *rest in (line.split("|") for line in listed.splitlines())}


def until(condition: object, process: subprocess.Popen, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate(timeout=5)
        time.sleep(0.1)


@pytest.mark.ci(seconds=134)
def test_a_training_run_killed_on_a_cluster_resumes_when_the_command_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = clone(tmp_path / "clone")
    use_synthetic_data(root, monkeypatch)
    (root / "profiles" / "small.yaml").write_text(PROFILE)
    (root / "sitecustomize.py").write_text(SITECUSTOMIZE)
    (root / ".venv").mkdir()
    (root / ".venv" / "ready").write_text(f"{root.resolve()}\n")
    options = {"cwd": root, "text": True, "env": environment(root, TMPDIR=str(tmp_path), STEPS=str(tmp_path / "steps"))}
    training_run = root / "results" / "cluster" / "train" / "seed1"

    with slurm(tmp_path / "slurm"):
        first = subprocess.Popen(COMMAND, **options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until(lambda: len(list(training_run.glob("checkpoint-*"))) > 1, first)
        running = jobs()
        assert {name for name, (_, state, _) in running.items() if state == "R"} >= {"rule_train_wildcards_1"}
        second = subprocess.run(COMMAND, **options, capture_output=True)
        assert second.returncode != 0
        assert "another process is running report of the run cluster: wait for it, or choose another run." in second.stdout
        subprocess.run(["scancel", running["rule_train_wildcards_1"][0]], check=True)
        _, errors = first.communicate(timeout=300)
        assert first.returncode != 0 and not (training_run / "record.json").exists(), errors

        again = subprocess.Popen(COMMAND, **options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        exclusive = set()
        while again.poll() is None:
            exclusive |= {name for name, (_, state, shares) in jobs().items() if state == "R" and shares == "NO"}
            time.sleep(0.2)
        output, errors = again.communicate()
        assert again.returncode == 0, output + errors
        assert exclusive == {"rule_latency", "rule_half_precision", "rule_faster"}
    measured = json.loads((training_run / "record.json").read_text())["measurements"]
    assert len(measured["resumed_after"]) == 1 and len(measured["epochs"]) == EPOCHS
    steps = (tmp_path / "steps").read_text().split()
    assert sorted(steps) == ["2_export", "3_latency", "4_half_precision", "5_faster", "6_report"]
