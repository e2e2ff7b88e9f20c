"""The ways in agree with each other."""

import itertools
import json
import re
import subprocess
import tomllib

import yaml
from clones import REFERENCE

from cifar_bench import records
from cifar_bench.analysis import verdicts
from cifar_bench.analysis.evidence import gather
from cifar_lib import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
JUDGED = (REFERENCE, "epyc", *records.REFERENCE_GPUS)  # whose verdicts are committed
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "snakemake": "snakemake-minimal"}


def test_conda_asks_for_the_same_packages_and_ranges_as_pip() -> None:
    wanted = {f"python{PROJECT['requires-python']}", "pip", "--editable ."}
    for requirement in itertools.chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        name, ranges = re.fullmatch(r"([a-z-]+)(.*)", requirement).groups()
        wanted.add(CONDA_NAMES.get(name, name) + ranges)
    *listed, by_pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert {*listed, *by_pip["pip"]} == wanted


def test_the_lock_pins_every_requirement_exactly_and_names_no_address() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    pins = dict(re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!]+)", line).groups() for line in lines)
    required = [re.match(r"[a-z-]+", requirement)[0] for requirement in PROJECT["dependencies"]]
    assert set(required) <= {name.lower().replace("_", "-") for name in pins}


def test_the_readme_shows_the_verdicts_of_the_reference_run_and_its_records_bear_them_out() -> None:
    kept = {run: json.loads((ROOT / "results" / run / "verdicts.json").read_text())["verdicts"] for run in JUDGED}
    assert {run: verdicts.judge(gather(run), verdicts.load_claims()) for run in kept} == kept
    readme = (ROOT / "README.md").read_text()
    for claim, row in zip(verdicts.load_claims(), kept[REFERENCE], strict=True):
        assert f"| {claim['claim']} | {claim['original']} | {row['ours']} | {row['verdict']} | {row['reason']} |" in readme


def test_the_reference_runs_are_those_that_are_committed() -> None:
    listed = subprocess.run(["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {name.split("/")[1] for name in listed.split()} == set(records.REFERENCES)


def test_what_is_shown_is_the_reference_run() -> None:
    shown = {run for run in re.findall(r"(?:results|figures)/([\w-]+)/(?:report|verdicts|latency|\w+\.svg)",
                                       (ROOT / "README.md").read_text())}
    assert shown - {"quick", "name", "mine"} == set(JUDGED)
    assert f'"run: str = \\"{REFERENCE}\\"' in (ROOT / "notebooks" / "6_report.ipynb").read_text()
    assert {f"!/results/{REFERENCE}/", f"!/figures/{REFERENCE}/"} <= {*(ROOT / ".gitignore").read_text().splitlines()}


def test_a_package_holds_every_room_of_the_library_and_all_its_files() -> None:
    installed = PYPROJECT["tool"]["setuptools"]
    library = ROOT / "cifar_lib"
    folders = {path.parent for path in library.rglob("*.py")}
    assert set(installed["packages"]) == {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []
    others = {path for path in library.rglob("*.*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    data = {path for package, patterns in installed["package-data"].items() for pattern in patterns
            for path in (ROOT / package.replace(".", "/")).glob(pattern)}
    assert data == others
    assert {"infer.cpp", "CMakeLists.txt", "index.html.j2", "report.css", "report.js"} <= {path.name for path in data}


def test_a_clone_is_light() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    sizes = {name: (ROOT / name).stat().st_size for name in listed if name and (ROOT / name).is_file()}
    assert len(sizes) > 100
    assert sum(sizes.values()) <= 25e6
    assert {name: size for name, size in sizes.items() if size > 11e6} == {}
