"""`make report` on a cluster: a job for each step, which ends with the command; steps that time something share no node.

Those that run need Debian's slurm-wlm and munge.
"""

import json
import os
import re
import signal
import subprocess
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from clones import STEP, clone, environment, use_synthetic_data
from conftest import Refused
from slurm import slurm
from snakemake.resources import Resources

from cifar_bench.notebook import control

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
    from cifar_bench.notebook import control

    control.MAX_SILENT_WAIT_S, control.SQUEUE_INTERVAL_S = 2, 1
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


@pytest.mark.ci(seconds=165)
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
        refused = subprocess.run([*COMMAND, "CORES=99"], **options, capture_output=True)
        sentence, make = refused.stderr.splitlines()
        assert sentence.startswith("train requests cores=99, mem_mb=8000, runtime=2880, but no node has that: they have cores=")
        assert make.startswith("make: ***") and refused.returncode != 0

        waiting = subprocess.Popen([*COMMAND, "NODES=old", f"{COMMAND[-1]} --default-resources slurm_partition=down"],
                                   **options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until(lambda: len(jobs()) == 2, waiting)
        time.sleep(8)
        waiting.send_signal(signal.SIGINT)
        output, errors = waiting.communicate(timeout=30)
        assert jobs() == {} and errors.splitlines()[0] == "Stopped: the same command continues the run."
        assert sorted(re.findall(r"(\w+) \(job \d+\) has waited for a minute", output)) == [
            "rule_train_wildcards_0", "rule_train_wildcards_1"], output

        first = subprocess.Popen(COMMAND, **options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until(lambda: len(list(training_run.glob("checkpoint-*"))) > 1, first)
        assert {name for name, (_, state, _) in jobs().items() if state == "R"} >= {"rule_train_wildcards_1"}
        second = subprocess.run(COMMAND, **options, capture_output=True)
        assert second.returncode != 0 and second.stderr.startswith("make: ***")
        assert "another process is running report of the run cluster: wait for it, or choose another run." in second.stdout
        first.terminate()
        _, errors = first.communicate(timeout=30)
        assert first.returncode != 0 and not (training_run / "record.json").exists() and jobs() == {}, errors

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


# ---- requests that no node can hold

SINFO = """#!/bin/sh
cat << END
cpu*|8|16000|(null)|2-00:00:00|epyc,fast
cpu*|4|32000|(null)|2-00:00:00|xeon
gpu|16|64000|gpu:a100:4(S:0-1),shard:8|infinite|(null)
short|2|4000|gpu:1|30:00|xeon
END
"""


@pytest.fixture
def sinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sinfo").write_text(SINFO)
    (tmp_path / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("cores", "resources", "held"),
    [(8, {}, True), (9, {}, False), (4, {"constraint": "xeon"}, True), (8, {"constraint": "xeon"}, False),
     (1, {"constraint": "arm"}, False), (8, {"constraint": "epyc&fast"}, True), (8, {"constraint": "xeon&fast"}, False),
     (8, {"constraint": "xeon|fast"}, True), (4, {"mem_mb": 32000}, True), (8, {"mem_mb": 32000}, False),
     (1, {"gpu": 1}, False), (16, {"gpu": 4, "slurm_partition": "gpu"}, True), (1, {"gpu": 5, "slurm_partition": "gpu"}, False),
     (1, {"gpu": 1, "runtime": 30, "slurm_partition": "short"}, True), (1, {"runtime": 31, "slurm_partition": "short"}, False),
     (1, {"runtime": 2880}, True), (1, {"runtime": 2881}, False), (1, {"runtime": 9999, "slurm_partition": "gpu"}, True),
     (1, {"slurm_partition": "long"}, False), (16, {"slurm_partition": "short,gpu"}, True), (1, {"mem_mb": "<TBD>"}, True)],
)
def test_a_request_that_no_node_can_hold_is_refused(
    sinfo: None, refused: Refused, cores: int, resources: dict[str, object], held: bool
) -> None:
    partition = resources.get("slurm_partition", "cpu")
    there = {"gpu": "cores=16, mem_mb=64000, gpu=4", "short": "cores=2, mem_mb=4000, gpu=1, runtime=30, constraint=xeon"}
    with nullcontext() if held else refused(f"train requests cores={cores}, " if resources else f"train requests cores={cores}",
                                            *(f"{name}={value}" for name, value in resources.items()),
                                            there.get(partition, "cores=8, mem_mb=16000, runtime=2880, constraint=epyc,fast")):
        control.check_request("train", cores, resources)


@pytest.mark.parametrize(("partition", "constraint", "cores"), [(None, None, 4), (None, "fast", 8), ("gpu", None, 16)])
def test_a_job_gets_the_cores_of_the_smallest_node(
    sinfo: None, partition: str | None, constraint: str | None, cores: int
) -> None:
    resources = Resources.from_mapping({"slurm_partition": partition} if partition else {})
    workflow = SimpleNamespace(resource_settings=SimpleNamespace(default_resources=resources))
    assert control.smallest_cores(workflow, constraint) == cores
