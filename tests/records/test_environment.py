"""The environment in a record is what the system reports, on x86 and on Arm; variables that tune libraries are dropped."""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cifar_bench import drop_tuning, records
from cifar_bench.records import code, environment
from cifar_lib import ROOT


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`processor("avx2 sse2")` makes this a CPU with two cores and these features."""

    def becomes(flags: str) -> None:
        monkeypatch.setattr(environment, "_cpuinfo", lambda: {"brand_raw": "A CPU", "flags": flags.split()})
        monkeypatch.setattr(environment, "cores", lambda: 2)

    return becomes


@pytest.mark.parametrize(
    ("flags", "name"),
    [("fpu sse2", "A CPU, 2 cores"), ("fpu avx2", "A CPU (AVX2), 2 cores"), ("avx2 avx512f", "A CPU (AVX-512), 2 cores"),
     ("avx2 avx512f amx_tile", "A CPU (AMX), 2 cores"), ("fp asimd", "A CPU (NEON), 2 cores"),
     ("fp asimd sve", "A CPU (SVE), 2 cores")],
)
def test_processors_of_the_same_name_are_told_apart_by_their_vectors(
    processor: Callable[[str], None], flags: str, name: str
) -> None:
    processor(flags)
    assert environment.hardware("cpu") == name


def test_a_processor_that_reports_nothing_has_a_name_and_no_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_cpuinfo", dict)
    monkeypatch.setattr(environment, "cores", lambda: 1)
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert environment.cpu_features() == []
    assert environment.hardware("cpu") == f"{platform.machine()}, 1 core"


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="only Linux lists the features there")
def test_features_are_those_that_the_system_lists() -> None:
    lists = re.search(r"^(?:flags|Features)\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    assert environment.cpu_features() == [name for name in environment.FEATURES if name in lists[1].split()]


def test_nvidia_smi_is_asked_about_the_gpu_that_pytorch_uses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever CUDA_VISIBLE_DEVICES says, nvidia-smi numbers all GPUs."""
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\n[ "$4" = GPU-5f1b ] && [ "$1" = --query-gpu=clocks.sm ] && echo 1755\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid="5f1b"))
    assert environment.nvidia_smi("clocks.sm") == "1755"
    program.unlink()
    assert environment.nvidia_smi("clocks.sm") == ""


@pytest.mark.parametrize("files", [[], ["cifar_lib/model.py"]], ids=["as committed", "with changes"])
def test_a_record_names_its_commit_whether_code_differs_and_the_locked_versions(
    monkeypatch: pytest.MonkeyPatch, files: list[str]
) -> None:
    monkeypatch.setattr(code, "uncommitted", lambda: files)
    monkeypatch.setattr(code, "git", lambda *arguments: "8e2e" if arguments == ("rev-parse", "HEAD") else "")
    described = environment.describe("cpu")
    assert (described["commit"], described["uncommitted_changes"]) == ("8e2e", bool(files))
    assert described["requirements_sha256"] == records.sha256(ROOT / "requirements.lock")


# ---- what limits or tunes a process

LEFT_OVER = {"LD_PRELOAD": "libm.so.6", "MALLOC_ARENA_MAX": "1", "PYTHONMALLOC": "debug", "OMP_PROC_BIND": "true",
             "GOMP_CPU_AFFINITY": "0", "OMP_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "1",
             "MKL_NUM_THREADS": "1", "ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}
PROGRAM = """
import json, os, subprocess, sys
from cifar_bench.records import environment
described = environment.describe("cpu")
import torch
torch.set_num_threads(2)
torch.ones(300, 300) @ torch.ones(300, 300)
described |= {"affinity": len(os.sched_getaffinity(0)), "kernels": torch.backends.cpu.get_cpu_capability()}
print(json.dumps(described))
if "again" not in sys.argv:
    sys.exit(subprocess.run([sys.executable, "-c", sys.argv[1], sys.argv[1], "again"]).returncode)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot tie a process to a core")
def test_left_over_variables_tune_no_process_and_are_on_record() -> None:
    def describe(**variables: str) -> list[dict]:
        process = subprocess.run([sys.executable, "-c", PROGRAM, PROGRAM], cwd=ROOT, capture_output=True,
                                 encoding="utf-8", env={**os.environ, **variables})
        assert process.returncode == 0, process.stderr
        return [json.loads(line) for line in process.stdout.splitlines()]

    (plain, _), both = describe(), describe(**LEFT_OVER)
    assert len(both) == 2  # a process and its child
    for tuned in both:
        assert tuned["dropped_variables"].items() >= LEFT_OVER.items()
        for same in ("affinity", "kernels", "threads", "hardware"):
            assert tuned[same] == plain[same]


def test_only_what_tunes_libraries_is_dropped_and_what_a_parent_dropped_is_remembered() -> None:
    kept = {"PATH": "/bin", "OMP_WAIT_POLICY": "passive", "MKLROOT": "/a", "MKL_THREADING_LAYER": "GNU",
            "TORCHINDUCTOR_CACHE_DIR": "/a", "LD_LIBRARY_PATH": "/a", "PYTHONPATH": "/a", "PYTHONHASHSEED": "0", "CXX": "g++"}
    tuning = {"KMP_AFFINITY": "compact", "ONEDNN_VERBOSE": "1", "TORCHINDUCTOR_LAYOUT_OPTIMIZATION": "0",
              "TORCH_MKLDNN_MATMUL_MIN_DIM": "9", "LD_AUDIT": "/a", "GLIBC_TUNABLES": "glibc.malloc.check=3",
              "TCMALLOC_SAMPLE_PARAMETER": "1", "PYTHONDEVMODE": "1", "PYTHONOPTIMIZE": "2", "CXXFLAGS": "-O0", "CPATH": "/a",
              "LIBRARY_PATH": "/a", "CMAKE_CXX_FLAGS": "-g", "PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}
    environ = {**kept, **tuning}
    assert drop_tuning(environ) == tuning
    environ["TORCH_COMPILE_DISABLE"] = "1"
    assert drop_tuning(environ) == drop_tuning(environ) == {**tuning, "TORCH_COMPILE_DISABLE": "1"}
    assert {name: environ[name] for name in kept} == kept and len(environ) == len(kept) + 1


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [("0::/job/step", {"job/cpu.max": "150000 100000", "job/step/cpu.max": "max 100000"}, 2),
     ("0::/", {"cpu.max": "50000 100000"}, 1), ("", {}, 64), ("0::/job", {"job/cpu.max": "9900000 100000"}, 64),
     ("0::/unseen/from/inside", {"cpu.max": "300000 100000"}, 3),
     ("5:memory:/a\n4:cpu,cpuacct:/a",
      {"cpu,cpuacct/a/cpu.cfs_quota_us": "400000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, 4),
     ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64)],
)
def test_cores_are_no_more_than_the_control_groups_allow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, groups: str, files: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(environment, "CGROUPS", tmp_path)
    monkeypatch.setattr(environment, "CGROUP", tmp_path / "groups")
    for name, content in {**files, "groups": groups}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{content}\n")
    assert environment.cores() == cores
