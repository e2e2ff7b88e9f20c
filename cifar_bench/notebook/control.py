"""What Snakemake lacks: a signal ends everything that runs, and no job is submitted that no node of a cluster can hold."""

import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from cifar_lib import InputError, cifar10

REASON_VARIABLE = "REPORT_REASON"  # the environment variable in which `make report` names the file for errors
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
GRACE_S, SLURM_GRACE_S = 8, 20  # for a notebook or a job on Slurm that was told to stop
MAX_SILENT_WAIT_S, SQUEUE_INTERVAL_S = 60, 10


def report_error(error: str) -> None:
    """Write an error to stderr, or to the file that `make report` names: the output of a cluster's job is not seen."""
    if file := os.environ.get(REASON_VARIABLE):
        with open(file, "a", encoding="utf-8") as errors:
            print(error, file=errors)
    else:
        print(error, file=sys.stderr)


# ---- stop means stop


def on_signal(action: Callable[[], object]) -> None:
    """Call `action` at the first of SIGNALS, and ignore later ones. What was ignored before (by nohup, say) stays ignored."""

    def handle(*_: object) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        action()

    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handle)


def end(processes: Sequence[psutil.Process], grace_s: float) -> None:
    """Wait for `processes`, and kill those that still run after `grace_s` seconds."""
    left = psutil.wait_procs(processes, grace_s)[1]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, 1)


def stop_on_signal(workflow: Any) -> None:
    """At a signal to this Snakemake, or to the make that called it, end its steps, its jobs on Slurm, and Snakemake.

    Snakemake alone lets running steps finish after SIGTERM, and after SIGINT waits for minutes where jobs run on Slurm.
    """
    from snakemake.workflow import JobScheduler  # here: notebooks import this module, too

    def stop(*_: object) -> None:
        below = psutil.Process().children(recursive=True)
        told = []
        for process in below:
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getsid(process.pid) == os.getsid(0):  # a kernel has its own session: its notebook's process ends it
                    process.terminate()
                    told.append(process)
        if name := _jobs_name(workflow):
            deadline, left = time.monotonic() + SLURM_GRACE_S, True
            while left and time.monotonic() < deadline:
                subprocess.run(["scancel", "--name", name])  # again, too: one may have been submitted meanwhile
                time.sleep(0.5)
                left = _jobs(name)
        end(told, GRACE_S)
        end(below, 0)
        if workflow.is_main_process:
            report_error("Stopped: the same command continues the run.")
        os._exit(1)

    on_signal(stop)
    JobScheduler.exit_gracefully = stop  # it becomes the handler of SIGTERM
    if workflow.is_main_process:
        threading.Thread(target=_watch, args=[workflow], daemon=True).start()


def _watch(workflow: Any) -> None:
    """Stop when a make above was told to stop; say once for each job on Slurm why it waits."""
    makes = [process.pid for process in psutil.Process().parents() if process.name() in ("make", "gmake")]
    seen: dict[str, float] = {}
    next_look = 0.0
    while not any(map(_told_to_stop, makes)):
        now = time.monotonic()
        if (name := _jobs_name(workflow)) and now > next_look:
            next_look = now + SQUEUE_INTERVAL_S
            for job, state, reason, rule in _jobs(name):
                if state == "PENDING" and now - seen.setdefault(job, now) > MAX_SILENT_WAIT_S:
                    print(f"{rule} (job {job}) has waited for a minute, for this reason of Slurm's: {reason}", flush=True)
                    seen[job] = float("inf")
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _told_to_stop(make: int) -> bool:
    """GNU make tells its children of SIGTERM only, and waits for them; but it no longer catches a signal that it received."""
    try:
        status = Path(f"/proc/{make}/status").read_text(encoding="utf-8")
    except OSError:
        return True
    handled = sum(int(mask, 16) for mask in re.findall(r"Sig(?:Cgt|Ign):\s(\w+)", status))  # no signal is in both
    return "State:\tZ" in status or not all(handled >> number - 1 & 1 for number in SIGNALS)


# ---- Slurm


AMOUNTS = ("cores", "mem_mb", "gpu", "runtime")  # in Snakemake's names; runtime in minutes


def smallest_cores(workflow: Any, constraint: str | None) -> int:
    """The cores of the smallest node with these features in the partition of the jobs; 1 where none has them."""
    partition = (workflow.resource_settings.default_resources or {}).get("slurm_partition")
    return min((node["cores"] for node in _nodes(partition and partition.raw) if _has(node, constraint)), default=1)


def prepare_jobs(workflow: Any) -> None:
    """Find CIFAR-10, and check that some node can hold each job; report an error and exit."""
    try:
        cifar10.find()
        jobs = workflow.dag.needrun_jobs() if _jobs_name(workflow) else ()
        for job in sorted(jobs, key=lambda job: -job.priority):
            check_request(job.rule.name, job.threads, job.resources)
    except InputError as error:
        report_error(str(error))
        sys.exit(1)


def check_request(step: str, cores: int, resources: Mapping[str, object]) -> None:
    """Raises InputError, with what the nodes have, where none has `cores` and the `resources` of Snakemake's job."""
    partition, constraint = resources.get("slurm_partition"), resources.get("constraint")
    known = {name: value for name in AMOUNTS if isinstance(value := resources.get(name), int)}  # others come with their inputs
    amounts = {"cores": cores, **known}
    there = _nodes(partition)
    if not any(all(node[name] >= amounts[name] for name in amounts) and _has(node, constraint) for node in there):
        wanted = _listed({**amounts, "constraint": constraint, "slurm_partition": partition})
        kinds = "; ".join(sorted({_listed(node) for node in there or _nodes(None, every=True)}))
        raise InputError(f"{step} requests {wanted}, but no node has that: they have {kinds}.")


def _nodes(partition: str | None, every: bool = False) -> list[dict[str, Any]]:
    """What the nodes offer of `partition` (or several, with commas), by default of Slurm's default, or of every partition."""
    nodes = []
    for name, cores, memory, gres, limit, features in _slurm("sinfo", "--Node", "--format=%P|%c|%m|%G|%l|%f"):
        if every or (name.rstrip("*") in partition.split(",") if partition else name.endswith("*")):
            gpus = re.findall(r"\bgpu(?::[^:,(]+)??(?::(\d+))?(?=[,(]|$)", gres)
            days, hours, minutes = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):\d+|\D*", limit).groups()
            runtime = (24 * int(days or 0) + int(hours or 0)) * 60 + int(minutes) if minutes else math.inf
            amounts = zip(AMOUNTS, (int(cores), int(memory), sum(int(number or 1) for number in gpus), runtime))
            nodes.append({**dict(amounts), "constraint": features.replace("(null)", ""), "slurm_partition": name.rstrip("*")})
    return nodes


def _has(node: dict[str, Any], constraint: str | None) -> bool:
    """Whether a node has the features of Slurm's expression `constraint`, in which & and | are understood."""
    features = set(node["constraint"].split(","))
    return any(features.issuperset(re.findall(r"[^&()[\]\s]+", names)) for names in (constraint or "").split("|"))


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items() if value and value != math.inf)


def _jobs_name(workflow: Any) -> str | None:
    """The name of this Snakemake's jobs on Slurm; None where it does not run on Slurm."""
    return getattr(getattr(workflow.scheduler, "_executor", None), "run_uuid", None)


def _jobs(name: str) -> list[list[str]]:
    """The id, state, reason and rule of each unfinished job of this name; empty, too, where Slurm does not answer."""
    with suppress(InputError):
        return _slurm("squeue", f"--name={name}", "--format=%i|%T|%r|%k")
    return []


def _slurm(*command: str) -> list[list[str]]:
    try:
        output = subprocess.run([*command, "--noheader"], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        raise InputError(f"Slurm does not answer ({reason.strip().splitlines()[0]}): wait, or give CORES.") from error
    return [line.split("|") for line in output.splitlines()]
