"""Records: one JSON file a step, written whole at its end, with raw series as compressed .npz files beside it.

A record holds `schema`, `step`, `made` (UTC), `seconds`, `profile`, `code`, `parameters`, `environment`, `data` and
`measurements`; `series` names the arrays beside it by file name: raw series, one number per image. It knows the SHA-256 of
them, of the `inputs` and the `code` that it was made from, and of itself (`digest`): what was changed since is refused. Every
step of a run has its folder, `results/<run>/<step>/`, and a step that died leaves no record.json there.
"""

import hashlib
import json
import lzma
import os
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from cifar_bench import RUN_NAME
from cifar_bench.records import code, environment
from cifar_lib import ROOT, InputError

SCHEMA = 1
KEYS = {"schema", "step", "made", "seconds", "parameters", "environment", "data", "measurements", "series"}
SUBKEYS = {"parameters": set(), "measurements": set(), "data": {"dataset"}, "environment": {"hardware", "cpu", "gpu"}}
SHIPPED = "shipped"  # the run whose weights and exports take the place of an earlier step
REFERENCE_TRAINING_RUNS = (SHIPPED, "h100")  # runs whose training runs, of hours, are evidence for any run
REFERENCE_GPUS = ("h200",)  # runs that decide the claims about a GPU for runs without one
NARROW = "narrow"  # the run of a narrower network, which 5_faster compares with the original's
REFERENCES = ("xeon", "epyc", NARROW, *REFERENCE_TRAINING_RUNS, *REFERENCE_GPUS)  # the runs that the project ships
AA_TEST, REPEATED_IMAGE = "aa-test", "repeated-image"  # variants of an engine: measured a second time; with one image only
PROFILE_VARIABLE = "REPORT_PROFILE"  # the environment variable in which `make report` names the profile


@dataclass
class Step:
    """One step of a run in progress: opened at the start of a notebook, written at its end.

    Raises InputError where the run's name is invalid, its record is one that the project ships, its folder cannot be written,
    or another process is running this step.
    """

    name: str
    run: str
    parameters: Mapping[str, object]
    device: str = "cpu"
    folder: Path = field(init=False)
    environment: dict = field(init=False)  # at the start: code and load may change during hours of training
    code: str | None = field(init=False)  # the digest of the step's code, likewise
    started: float = field(init=False, default_factory=time.perf_counter)
    lock: FileLock = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not RUN_NAME.fullmatch(self.run):
            raise InputError(f"run is {self.run!r}: use letters, digits, '.', '_' and '-' only.")
        self.folder = step_folder(self.run, self.name)
        refuse_reference(self.run)
        self.lock = lock(self.run, self.name)
        self.environment = environment.describe(self.device)
        self.code = code.step_digest(self.name)
        probe = self.folder / ".probe"
        with replacing(probe) as scratch:  # fail now, not after hours of training, where nothing can be written
            scratch.touch()
        probe.unlink()
        (self.folder / "record.json").unlink(missing_ok=True)

    def write(
        self, measurements: dict, data: dict, series: Mapping[str, np.ndarray] | None = None, inputs: Iterable[Path] = ()
    ) -> dict:
        """Write the series, then the record; return the record. `inputs` are the files that the step started from."""
        files = {}
        for name, values in (series or {}).items():
            files[name] = f"{name}.npz"
            with replacing(self.folder / files[name]) as path, path.open("wb") as file:
                np.savez_compressed(file, values=values)
        record = {
            "schema": SCHEMA,
            "step": self.name,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - self.started, 1),
            "profile": os.environ.get(PROFILE_VARIABLE),  # None where a notebook was run by hand
            "code": self.code,
            "parameters": dict(self.parameters),
            "environment": self.environment,
            "data": data,
            "measurements": measurements,
            "series": files,
            "series_sha256": {file: sha256(self.folder / file) for file in files.values()},
            "inputs": {os.path.relpath(path, ROOT): sha256(path) for path in inputs},
        }
        record = json.loads(json.dumps(record, allow_nan=False))  # as it will be read
        record["digest"] = _digest(record)
        with replacing(self.folder / "record.json") as path:
            path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        self.lock.release(force=True)
        return record


def is_reference(run: str) -> bool:
    """Whether `run` is one that the project ships, whose files stay as they are.

    Not where its records were deleted: `make report` asks before its first step, and then makes it anew.
    """
    made_anew = PROFILE_VARIABLE in os.environ
    return run in REFERENCES and not made_anew and any((ROOT / "results" / run).glob("**/record.json"))


def refuse_reference(run: str) -> None:
    """Raises InputError where `run` is a reference run."""
    if is_reference(run):
        raise InputError(f"{run} is a reference run of this project: choose another name, or delete results/{run} first.")


def step_folder(run: str, step: str) -> Path:
    return ROOT / "results" / run / step


def has_own_weights(run: str) -> bool:
    """Whether `run` has trained or exported a network, or begun to."""
    return any(path.is_file() for step in ("train", "export") for path in step_folder(run, step).rglob("*"))


def exported(run: str) -> Path:
    """The folder of `run`'s export, or of the shipped one, with a printed sentence, where `run` has no weights of its own.

    Raises InputError where `run` is a reference run, or has weights of its own but no complete export.
    """
    refuse_reference(run)
    folder = step_folder(run, "export")
    if all((folder / name).is_file() for name in ("record.json", "model.pt")):
        return folder
    if has_own_weights(run):
        raise InputError(f"results/{run} has weights of its own but no export: run 2_export first, or choose another run.")
    print(f"results/{run} has no weights of its own: the shipped network is measured (results/{SHIPPED}/export).")
    return step_folder(SHIPPED, "export")


def read(folder: Path, name: str = "record.json") -> dict:
    """The record in `folder`. Raises InputError where there is none, it was changed, or this version cannot read it."""
    path = folder / name
    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant,
                            object_hook=_refuse_negative_times)
    except FileNotFoundError as error:
        raise InputError(f"there is no record at {path}: run that step first.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a record ({error}): run that step again.") from error
    if not isinstance(record, dict) or not set(record) >= KEYS or record["schema"] != SCHEMA or not all(
        isinstance(record[key], dict) and set(record[key]) >= keys for key, keys in SUBKEYS.items()
    ) or str(record["step"]).split("/")[-1] != folder.name:
        raise InputError(f"{path} is not a record of schema {SCHEMA} of this step: run it again.")
    if "digest" in record and record["digest"] != _digest(record):  # older records have none
        raise InputError(f"{path} was changed after it was written: run that step again.")
    return record


def read_series(folder: Path, record: dict, name: str) -> np.ndarray:
    """A raw series of a record. Raises InputError where its file is missing, damaged or not the one that was measured."""
    path = folder / record["series"][name]
    try:
        known = record.get("series_sha256", {}).get(path.name)  # older records have none
        if known and known != sha256(path):
            raise InputError(f"{path} is not the series of its record: run that step again.")
        return np.load(path, allow_pickle=False)["values"]
    except (OSError, ValueError, EOFError, KeyError, IndexError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{path} is missing or damaged: run that step again.") from error


def reason_to_measure_again(path: Path, planned: Mapping[str, object]) -> str:
    """Why the record in the file `path` does not count: it was damaged or edited, or other code, inputs or parameters made it.

    `planned` are the profile's parameters. A record that was made by hand may have others.
    """
    try:
        record = read(path.parent, path.name)
        for name in record["series"]:
            read_series(path.parent, record, name)
    except InputError as error:
        return str(error)
    other = [name for name, known in record.get("inputs", {}).items()
             if not (ROOT / name).is_file() or sha256(ROOT / name) != known]
    if record.get("code") not in (None, code.step_digest(record["step"])):  # older records have none
        other.append("code")
    if record.get("profile"):
        other += [name for name, value in planned.items() if record["parameters"].get(name) != value]
    return f"{path} was made with another {other[0]}: that step is run again." if other else ""


def set_aside(path: Path, planned: Mapping[str, object]) -> None:
    """Rename the record in the file `path` where there is a `reason_to_measure_again`; print it.

    A record that was set aside, as for another profile, is put back if it counts again and no other has taken its place.
    """
    aside = path.with_suffix(".refused.json")
    if path.is_file() and (reason := reason_to_measure_again(path, planned)):
        print(reason)
        path.replace(aside)
    elif not path.is_file() and aside.is_file() and not reason_to_measure_again(aside, planned):
        aside.replace(path)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved there when the block ends without an error and removed otherwise.

    Raises InputError where the folder cannot be written.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        os.replace(scratch, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): fix that, or choose another run.") from error
    finally:
        with suppress(OSError):
            scratch.unlink()


@contextmanager
def scratch_folder(parent: Path) -> Iterator[str]:
    """A temporary folder in `parent`, which is made if it is missing. Raises InputError where it cannot be written."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=parent)
    except OSError as error:
        raise InputError(f"{parent} cannot be written ({error.strerror}): make it yours, or delete it.") from error
    with folder as path:
        yield path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(record: Mapping) -> str:
    content = {name: value for name, value in record.items() if name != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it holds {name}")  # NaN or Infinity, which are no JSON


def _refuse_negative_times(values: dict) -> dict:
    times = {name: value for name, value in values.items() if name.endswith("_ns") and isinstance(value, int | float)}
    if wrong := [name for name, value in times.items() if value < 0]:
        raise ValueError(f"{wrong[0]} is negative")
    return values


def lock(run: str, step: str) -> FileLock:
    """The lock of a run's step, held by this process until the record is written; the system frees it when a process ends."""
    path = ROOT / "results" / ".locks" / f"{run}.{step.replace('/', '.')}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=0, is_singleton=True)  # a cell run twice in one kernel gets the same lock again
        lock.acquire()
    except Timeout as error:
        raise InputError(f"another process is running {step} of the run {run}: wait for it, or choose another run.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): fix that, or choose another run.") from error
    return lock
