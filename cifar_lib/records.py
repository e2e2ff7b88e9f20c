"""Records: one JSON file a step, written whole at its end, with raw series as .npy files beside it.

A record holds `schema`, `step`, `made` (UTC), `seconds`, `parameters`, `environment`, `data` and `measurements`;
`series` names the arrays beside it by file name: raw series, one number per image, and photos that are shown. Every step of
a run has its folder, `results/<run>/<step>/`, and a step that died leaves no record.json there.
"""

import hashlib
import json
import os
import platform
import re
import subprocess
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from cifar_lib import ROOT, RUN_NAME, InputError

SCHEMA = 1
KEYS = {"schema", "step", "made", "seconds", "parameters", "environment", "data", "measurements", "series"}
SHIPPED = "shipped"  # the run whose weights and exports stand in for an earlier step
VECTORS = {"amx_tile": "AMX", "avx512f": "AVX-512", "avx2": "AVX2"}


@dataclass
class Step:
    """One step of one run while it is under way: opened at the start of a notebook, written at its end."""

    name: str
    run: str
    parameters: Mapping[str, object]
    device: str = "cpu"
    folder: Path = field(init=False)
    environment: dict = field(init=False)  # as it was at the start: code and load may change during hours of training
    started: float = field(init=False, default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        if not RUN_NAME.fullmatch(self.run):
            raise InputError(f"run is {self.run!r}: use letters, digits, '.', '_' and '-' only.")
        self.folder = step_folder(self.run, self.name)
        self.environment = environment(self.device)
        probe = self.folder / ".probe"
        with replacing(probe) as scratch:  # find out now, not after hours of training, that nothing can be written here
            scratch.touch()
        probe.unlink()
        (self.folder / "record.json").unlink(missing_ok=True)

    def write(self, measurements: dict, data: dict, series: Mapping[str, np.ndarray] | None = None) -> dict:
        """Write the series, then the record; return the record as it can be read again."""
        files = {}
        for name, values in (series or {}).items():
            files[name] = f"{name}.npy"
            with replacing(self.folder / files[name]) as path, path.open("wb") as file:
                np.save(file, values)
        record = {
            "schema": SCHEMA,
            "step": self.name,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - self.started, 1),
            "parameters": dict(self.parameters),
            "environment": self.environment,
            "data": data,
            "measurements": measurements,
            "series": files,
        }
        with replacing(self.folder / "record.json") as path:
            path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
        return record


def step_folder(run: str, step: str) -> Path:
    return ROOT / "results" / run / step


def run_or_shipped(run: str, step: str, *files: str) -> Path:
    """The folder of `run`'s own `step`, or of the shipped one where `run` has no record of it, or not all the `files`."""
    own = step_folder(run, step)
    return own if all((own / name).is_file() for name in ("record.json", *files)) else step_folder(SHIPPED, step)


def read(folder: Path) -> dict:
    """The record in `folder`. Raises InputError where there is none, or one this version cannot read."""
    path = folder / "record.json"
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"there is no record at {path}: run that step first.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no record ({error}): run that step again.") from error
    if not isinstance(record, dict) or not set(record) >= KEYS or record["schema"] != SCHEMA:
        raise InputError(f"{path} is not a record of schema {SCHEMA}: run that step again.")
    return record


def read_series(folder: Path, record: dict, name: str) -> np.ndarray:
    """A raw series of a record. Raises InputError where its file is missing or damaged."""
    path = folder / record["series"][name]
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is missing or damaged: run that step again.") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved into its place when the block ends well and removed when it does not.

    Raises InputError where the folder cannot be written.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        os.replace(scratch, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): choose another run or free the folder.") from error
    finally:
        with suppress(OSError):
            scratch.unlink()


def device_or_error(name: str) -> str:
    """`name` as a device PyTorch can use here, "auto" being the GPU where there is one. Raises InputError."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise InputError(f"device must be one of 'auto', 'cpu', 'cuda', not {name!r}.")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device is 'cuda', but PyTorch finds no NVIDIA GPU here: use 'cpu' or 'auto'.")
    return name


def environment(device: str) -> dict:
    """What the measurements depend on: hardware, clocks, threads, versions and the commit of this code."""
    return {
        "hardware": hardware(device),
        "device": device,
        "cpu": _cpu(),
        "gpu": _gpu() if device == "cuda" else None,
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("torch", "numpy", "papermill")},
        "commit": _git("rev-parse", "HEAD") or None,
        "requirements_sha256": _sha256(ROOT / "requirements.lock"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--", ".", ":!results", ":!figures")),
    }


def hardware(device: str) -> str:
    """The name of what computes: the GPU's, else the CPU's with its widest vectors and the number of cores at hand."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    cpu = _cpu()  # virtual machines may name processors of several generations alike: the vectors tell them apart
    vectors = next((f" ({name})" for feature, name in VECTORS.items() if feature in cpu["features"]), "")
    return f"{cpu['model']}{vectors}, {cpu['cores']} cores"


def clock_mhz() -> list[int]:
    """What each core's clock runs at now, as the system tells it."""
    return [round(float(mhz)) for mhz in re.findall(r"cpu MHz\s*:\s*(\S+)", _read("/proc/cpuinfo"))]


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_features() -> list[str]:
    """Those of the processor's features that matter here: wide vectors, and arithmetic in few bits."""
    flags = re.search(r"flags\s*:\s*(.+)", _read("/proc/cpuinfo"))
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_fp16",
              "amx_int8")
    return [name for name in wanted if flags and name in flags[1].split()]


def _cpu() -> dict:
    model = re.search(r"model name\s*:\s*(.+)", _read("/proc/cpuinfo"))
    return {
        "model": model[1].strip() if model else platform.processor() or platform.machine(),
        "cores": cores(),
        "features": cpu_features(),
        "mhz": clock_mhz(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or None,
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def _gpu() -> dict:
    properties = torch.cuda.get_device_properties(0)
    query = "driver_version,clocks.sm,clocks.mem,temperature.gpu,power.draw"
    answer = _run("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader", "-i", "0")
    return {
        "name": properties.name,
        "compute_capability": list(torch.cuda.get_device_capability()),
        "memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        **dict(zip(query.split(","), answer.split(", "))),
    }


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _git(*arguments: str) -> str:
    return _run("git", "-C", str(ROOT), *arguments)


def _run(*command: str) -> str:
    """What `command` prints, or nothing where it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
