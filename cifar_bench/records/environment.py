"""What measurements depend on: hardware, threads, versions and the commit of this code."""

import hashlib
import math
import os
import platform
import re
import shlex
import shutil
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import psutil

from cifar_bench import DROPPED, KEPT
from cifar_bench.records import code
from cifar_lib import ROOT, InputError

VECTORS = {"amx_tile": "AMX", "avx512f": "AVX-512", "avx2": "AVX2", "sve": "SVE", "asimd": "NEON"}
# The processor features that matter here: wide vectors, and arithmetic in 16 and 8 bits (x86, then Arm).
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_fp16",
            "amx_int8", "asimd", "sve", "asimdhp", "asimddp", "bf16", "i8mm")
COMPILERS = ("c++", "g++", "clang++")
CGROUPS, CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")  # Linux's control groups, and those of this process


def describe(device: str) -> dict:
    """The `environment` of a record; `device` is "cpu" or "cuda"."""
    import torch

    return {
        "hardware": hardware(device),
        "device": device,
        "cpu": _cpu(),
        "gpu": _gpu() if device == "cuda" else None,
        "threads": torch.get_num_threads(),
        "dropped_variables": DROPPED,
        "kept_variables": [name for name in KEPT if os.environ.get(name)],
        "compiler": compiler(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("torch", "numpy", "papermill")},
        "commit": code.commit(),
        "requirements_sha256": hashlib.sha256((ROOT / "requirements.lock").read_bytes()).hexdigest(),
        "uncommitted_changes": None if (changed := code.uncommitted()) is None else bool(changed),
    }


def hardware(device: str) -> str:
    """The GPU's name, or the CPU's with its widest vectors and the number of cores that this process may use."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    cpu = _cpu()  # in virtual machines several generations may have one name: the vectors tell them apart
    vectors = next((f" ({name})" for feature, name in VECTORS.items() if feature in cpu["features"]), "")
    return f"{cpu['model']}{vectors}, {cpu['cores']} core{'s' * (cpu['cores'] != 1)}"


@cache
def compiler() -> str | None:
    """The C++ compiler's command (CXX, or the first that is installed), version and file's hash; None without one.

    The command may hold flags, and the file may be a script that adds some.
    """
    name = os.environ.get("CXX") or next(filter(shutil.which, COMPILERS), None)
    try:
        command = shlex.split(name or "")
        version = subprocess.run([*command, "--version"], capture_output=True, encoding="utf-8", timeout=10, check=True).stdout
        content = Path(shutil.which(command[0])).read_bytes()
        return f"{name}: {version.splitlines()[0]} (SHA-256 {hashlib.sha256(content).hexdigest()[:12]})"
    except (OSError, ValueError, IndexError, TypeError, subprocess.SubprocessError):
        return None


def require_compiler() -> None:
    """Raises InputError where there is no C++ compiler."""
    if not compiler():
        raise InputError("no C++ compiler was found: install one (on Debian: apt install g++), or name it in CXX.")


def cores() -> int:
    """How many cores this process may use: those of its affinity, or fewer where a container or job has a limit."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *map(math.ceil, _cgroup_limits())]))


def cpu_features() -> list[str]:
    """The FEATURES that the processor has."""
    return [name for name in FEATURES if name in _cpuinfo().get("flags", [])]


@cache
def _cpuinfo() -> dict:
    from cpuinfo import get_cpu_info  # here: it takes a second, and few importers need it

    return get_cpu_info()


def _cpu() -> dict:
    return {
        "model": _cpuinfo().get("brand_raw") or platform.processor() or platform.machine(),
        "cores": cores(),
        "logical_cores": psutil.cpu_count(),  # of the whole machine, as those below
        "physical_cores": psutil.cpu_count(logical=False),
        "virtual_machine": "hypervisor" in flags if "fpu" in (flags := _cpuinfo().get("flags", [])) else None,  # x86 says
        "memory_bytes": psutil.virtual_memory().total,
        "features": cpu_features(),
        "governor": _text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")) or None,
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def _cgroup_limits() -> list[float]:
    """The processor time, in cores, that Linux's control groups allow this process: its own group and those above it."""
    groups = [line.split(":", 2) for line in _text(CGROUP).splitlines() if line.count(":") >= 2]
    limits = []
    for _, controllers, path in groups:
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = CGROUPS / controllers if controllers else CGROUPS  # version 1 has a folder for each controller
        own = top / path.lstrip("/")  # may not exist: a container sees its own group as the top
        for folder in {top, own, *(parent for parent in own.parents if top in parent.parents)}:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
            values = " ".join(_text(folder / name) for name in names)
            if re.fullmatch(r"[1-9]\d* [1-9]\d*", values):  # "max" or -1 without a limit
                quota, period = map(int, values.split())
                limits.append(quota / period)
    return limits


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _gpu() -> dict:
    import torch

    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "compute_capability": list(torch.cuda.get_device_capability()),
        "memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver_version": nvidia_smi("driver_version"),
    }


def nvidia_smi(query: str) -> str:
    """What nvidia-smi says now of the GPU that PyTorch uses ("clocks.sm", say), without unit; empty where it cannot run."""
    import torch

    uuid = f"GPU-{torch.cuda.get_device_properties(0).uuid}"  # nvidia-smi numbers all GPUs, whatever CUDA_VISIBLE_DEVICES says
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits", "-i", uuid]
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
