"""Runs a notebook as `make report` does: one line that says how long it will take and took, one sentence if it fails.

On a terminal the line also says how far the notebook's own progress bar is.

`python -m cifar_bench.notebook.execute --help` tells how; papermill does the work.
"""

import argparse
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import papermill
import yaml
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from cifar_bench.records import PROFILE_VARIABLE
from cifar_lib import ROOT

REASON_VARIABLE = "REPORT_REASON"  # the environment variable in which `make report` names the file for reasons
LONG = 3  # minutes: a shorter step is mostly starting up
# a bar of tqdm: what, how far, and the time left; or what a measurement says while another one is under way
STATE = re.compile(r"([^\r\n|]*%)\|[^\r\n|]*\|[^\r\n<]*<([\d:]+)|(waiting for [^\r\n]+)")


class Line:
    """A step's line: what it is expected to take, what it took, and between them, on a terminal, how far it is."""

    def __init__(self, beginning: str) -> None:
        self.beginning, self.on_terminal = beginning, sys.stdout.isatty()
        print(beginning, end="", flush=True)

    def write(self, text: str) -> None:
        """Take what the notebook writes to stderr, and show the last state that it tells, if any."""
        for what, left, waiting in STATE.findall(text)[-1:]:
            done = "100%" in what  # of this bar; the step goes on
            state = waiting or ("" if done else f"{' '.join(what.split())}, {left} left")
            print(f"\r{self.beginning}{state}\x1b[K", end="", flush=True)

    def flush(self) -> None:
        """Nothing is kept back."""

    def end(self, text: str) -> None:
        print(f"\r{self.beginning}{text}\x1b[K" if self.on_terminal else text)


class ThisPython(AsyncKernelManager):
    """Starts the kernel with this interpreter, whatever `python3` names among a user's kernels."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                          display_name="Python 3", language="python")


def run(notebook: Path, output: Path, parameters: Mapping[str, object], minutes: Mapping[str, float]) -> bool:
    """Execute `notebook` into `output` with `parameters`; tell how it goes, and return whether it went well.

    `minutes` says how long each notebook takes, in their order, on the machine that the profile was written for. What is left
    after this one is scaled by how the machine at hand compares, as far as a step of some minutes tells that.
    """
    step, steps = notebook.stem, list(minutes)
    own = minutes.get(step)
    later = sum(minutes[name] for name in steps[steps.index(step) + 1:]) if own else 0
    line = Line(f"{output.stem:<18}{f'about {_duration(60 * own)}' if own else 'under way':<16}")
    output.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        papermill.execute_notebook(notebook, output, dict(parameters), progress_bar=False, kernel_manager_class=ThisPython,
                                   stderr_file=line if line.on_terminal else None,
                                   extra_arguments=["--IPKernelApp.log_level=CRITICAL"])  # what matters is in the notebook
    except (PapermillExecutionError, DeadKernelError) as error:
        line.end(f"failed after {_duration(time.monotonic() - started)}")
        _tell(f"{step}, {_reason(error, output)}")
        return False
    except KeyboardInterrupt:
        line.end(f"interrupted after {_duration(time.monotonic() - started)}; the same command takes it up again")
        return False
    took = time.monotonic() - started
    pace = took / own if own and own >= LONG else 60
    line.end(f"took {_duration(took)}" + (f", about {_duration(later * pace)} left" if later else ""))
    return True


def _tell(reason: str) -> None:
    """Write why it failed to stderr, or to the file that `make report` names: what a cluster's job writes is not seen there."""
    if file := os.environ.get(REASON_VARIABLE):
        with open(file, "a", encoding="utf-8") as reasons:
            print(reason, file=reasons)
    else:
        print(reason, file=sys.stderr)


def _reason(error: PapermillExecutionError | DeadKernelError, output: Path) -> str:
    if isinstance(error, DeadKernelError):
        return f"executed as {output}: its process ended before its time, killed perhaps for want of memory."
    first, *_ = error.evalue.strip().splitlines() or ["no reason given"]
    return f"In [{error.exec_count}] of {output}: {error.ename}: {first}"


def _duration(seconds: float) -> str:
    """A duration in words, no more exact than it deserves."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m cifar_bench.notebook.execute", description=__doc__.split("\n\n")[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path, help="where the executed notebook is kept")
    parser.add_argument("parameters", type=yaml.safe_load, help="its parameters, as YAML or JSON")
    arguments = parser.parse_args()
    name = os.environ.get(PROFILE_VARIABLE)  # the profile whose `minutes` say how long each notebook takes
    profile = yaml.safe_load((ROOT / "profiles" / f"{name}.yaml").read_text(encoding="utf-8")) if name else {}
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the kernel is ended with this process
    well = run(arguments.notebook, arguments.output, arguments.parameters, profile.get("minutes", {}))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
