"""Runs a notebook for `make report`: one line with its expected and actual duration, one sentence if it fails.

On a terminal the line also shows the notebook's own progress. `python -m cifar_bench.notebook.execute --help` lists the
arguments; papermill does the work.
"""

import argparse
import logging
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import papermill
import psutil
import yaml
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from cifar_bench.notebook import control
from cifar_bench.records import PROFILE_VARIABLE
from cifar_lib import ROOT

MIN_MINUTES = 3  # a shorter step is mostly startup, and says little about the machine's speed
# A progress bar of tqdm (description and percentage, time left), or the message of a measurement that waits for another.
STATE = re.compile(r"([^\r\n|]*%)\|[^\r\n|]*\|[^\r\n<]*<([\d:]+)|(waiting for [^\r\n]+)")


class StatusLine:
    """A step's line: its expected duration, then its actual one, and in between, on a terminal, its progress."""

    def __init__(self, beginning: str) -> None:
        self.beginning, self.on_terminal = beginning, sys.stdout.isatty()
        print(beginning, end="", flush=True)

    def write(self, text: str) -> None:
        """Take what the notebook writes to stderr, and show the latest progress in it, if any."""
        for bar, left, waiting in STATE.findall(text)[-1:]:
            done = "100%" in bar  # of this bar, not of the step
            state = waiting or ("" if done else f"{' '.join(bar.split())}, {left} left")
            print(f"\r{self.beginning}{state}\x1b[K", end="", flush=True)

    def flush(self) -> None:
        """Needed by papermill; `write` flushes."""

    def end(self, text: str) -> None:
        print(f"\r{self.beginning}{text}\x1b[K" if self.on_terminal else text)


class ThisPython(AsyncKernelManager):
    """Starts the kernel with this interpreter, whatever `python3` is among the user's kernels."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                          display_name="Python 3", language="python")


def run(notebook: Path, output: Path, parameters: Mapping[str, object], minutes: Mapping[str, float]) -> bool:
    """Execute `notebook` into `output` with `parameters`; print its status, and return whether it succeeded.

    `minutes` gives each notebook's duration, in their order, on the machine that the profile was written for. The time left
    after this one is scaled by how long it took, where it is long enough to tell.
    """
    step, steps = notebook.stem, list(minutes)
    own = minutes.get(step)
    later = sum(minutes[name] for name in steps[steps.index(step) + 1:]) if own else 0
    line = StatusLine(f"{output.stem:<18}{f'about {_duration(60 * own)}' if own else 'running':<16}")
    output.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        papermill.execute_notebook(notebook, output, dict(parameters), progress_bar=False, kernel_manager_class=ThisPython,
                                   stderr_file=line if line.on_terminal else None,
                                   extra_arguments=["--IPKernelApp.log_level=CRITICAL"])  # the notebook holds what matters
    except (PapermillExecutionError, DeadKernelError) as error:
        line.end(f"failed after {_duration(time.monotonic() - started)}")
        control.report_error(f"{step}, {_reason(error, output)}")
        return False
    except KeyboardInterrupt:
        line.end(f"interrupted after {_duration(time.monotonic() - started)}; the same command resumes it")
        return False
    took = time.monotonic() - started
    pace = took / own if own and own >= MIN_MINUTES else 60
    line.end(f"took {_duration(took)}" + (f", about {_duration(later * pace)} left" if later else ""))
    return True


def _reason(error: PapermillExecutionError | DeadKernelError, output: Path) -> str:
    if isinstance(error, DeadKernelError):
        return f"executed as {output}: its kernel died, perhaps killed for lack of memory."
    first, *_ = error.evalue.strip().splitlines() or ["no reason given"]
    return f"In [{error.exec_count}] of {output}: {error.ename}: {first}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def main() -> int:
    description = (__doc__ or "").partition("\n\n")[0]  # python -OO has none
    parser = argparse.ArgumentParser(prog="python -m cifar_bench.notebook.execute", description=description)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path, help="where the executed notebook is written")
    parser.add_argument("parameters", type=yaml.safe_load, help="its parameters, as YAML or JSON")
    arguments = parser.parse_args()
    name = os.environ.get(PROFILE_VARIABLE)  # the profile whose `minutes` give each notebook's duration
    profile = yaml.safe_load((ROOT / "profiles" / f"{name}.yaml").read_text(encoding="utf-8")) if name else {}
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    below: list[psutil.Process] = []  # at a signal: papermill ends the kernel, but not what the kernel started

    def interrupt() -> None:
        below.extend(psutil.Process().children(recursive=True))
        raise KeyboardInterrupt

    control.on_signal(interrupt)
    succeeded = run(arguments.notebook, arguments.output, arguments.parameters, profile.get("minutes", {}))
    control.end(below, 0)
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
