"""The environment in a record is what the system tells, on x86 and on Arm, and nothing where it tells nothing."""

import platform
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from cifar_lib import ROOT
from cifar_lib.records import code, environment


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`processor("avx2 sse2")` makes it a CPU of two cores with these features."""

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


@pytest.mark.parametrize(
    ("flags", "features"),
    [("fpu sse2", []), ("sse2 avx512_fp16 avx2 amx_bf16", ["avx2", "avx512_fp16", "amx_bf16"]),
     ("fp asimd evtstrm asimdhp asimddp bf16 i8mm", ["asimd", "asimdhp", "asimddp", "bf16", "i8mm"])],
    ids=["old x86", "x86", "Arm"],
)
def test_features_are_those_that_matter_here(processor: Callable[[str], None], flags: str, features: list[str]) -> None:
    processor(flags)
    assert environment.cpu_features() == features


def test_a_processor_that_tells_nothing_has_a_name_and_no_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_cpuinfo", dict)
    monkeypatch.setattr(environment, "cores", lambda: 2)
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert environment.cpu_features() == []
    assert environment.hardware("cpu") == f"{platform.machine()}, 2 cores"


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="only Linux lists the features there")
def test_features_of_this_processor_are_those_that_the_system_lists() -> None:
    lists = re.search(r"^(?:flags|Features)\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    assert environment.cpu_features() == [name for name in environment.FEATURES if name in lists[1].split()]


def test_clocks_are_in_whole_megahertz_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = [SimpleNamespace(current=mhz) for mhz in (2599.998, 800.2)]
    monkeypatch.setattr(psutil, "cpu_freq", lambda percpu: clocks if percpu else clocks[:1])
    assert environment.clock_mhz() == [2600, 800]


def fails(error: type[Exception]) -> None:
    raise error


@pytest.mark.parametrize(
    "asked",
    [lambda percpu: None, lambda percpu: [], lambda percpu: fails(FileNotFoundError),
     lambda percpu: fails(NotImplementedError)],
    ids=["nothing", "no cores", "no file", "not implemented"],
)
def test_a_system_that_tells_no_clocks_has_none(monkeypatch: pytest.MonkeyPatch, asked: Callable[[bool], object]) -> None:
    monkeypatch.setattr(psutil, "cpu_freq", asked)
    assert environment.clock_mhz() == []


@pytest.mark.parametrize("files", [[], ["cifar_lib/model.py"]], ids=["as committed", "with changes"])
def test_a_record_says_which_commit_it_was_made_of_and_whether_code_differs(
    monkeypatch: pytest.MonkeyPatch, files: list[str]
) -> None:
    monkeypatch.setattr(code, "uncommitted", lambda: files)
    monkeypatch.setattr(code, "git", lambda *arguments: "8e2e" if arguments == ("rev-parse", "HEAD") else "")
    told = environment.describe("cpu")
    assert (told["commit"], told["uncommitted_changes"]) == ("8e2e", bool(files))


def test_a_record_names_the_locked_versions_by_their_hash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hashed = environment.describe("cpu")["requirements_sha256"]
    assert re.fullmatch("[0-9a-f]{64}", hashed) if (ROOT / "requirements.lock").is_file() else hashed is None
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    assert environment.describe("cpu")["requirements_sha256"] is None
