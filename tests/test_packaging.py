"""pip, conda, the lock, the package, the README and the committed records agree with each other."""

import itertools
import json
import re
import subprocess
import tomllib

import yaml
from clones import REFERENCE

from cifar_bench import records
from cifar_bench.analysis import frontier, latency, precision, verdicts
from cifar_bench.analysis.evidence import gather
from cifar_bench.records.code import PACKAGES
from cifar_lib import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
JUDGED = (REFERENCE, "epyc", *records.REFERENCE_GPUS)  # whose verdicts are committed
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "snakemake": "snakemake-minimal"}
CONDA_ONEDNN = "onednn-cpu-omp>=3"  # one package there, for all processors


def test_conda_asks_for_the_same_packages_and_ranges_as_pip() -> None:
    wanted = {f"python{PROJECT['requires-python']}", "pip", "--editable ."}
    for requirement in itertools.chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        name, ranges = re.fullmatch(r"([a-z0-9-]+)(.*)", requirement).groups()
        wanted.add(CONDA_ONEDNN if name.startswith("onednn-") else CONDA_NAMES.get(name, name) + ranges)
    *listed, by_pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert {*listed, *by_pip["pip"]} == wanted


def test_the_lock_pins_every_requirement_exactly() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    pins = dict(re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!]+)(?:; (?:platform_machine|python_version) .*)?", line).groups()
                for line in lines)
    required = [re.match(r"[a-z0-9-]+", requirement)[0] for requirement in PROJECT["dependencies"]]
    assert set(required) <= {name.lower().replace("_", "-") for name in pins}


def test_the_docs_show_the_verdicts_that_the_committed_records_give() -> None:
    committed = {run: json.loads((ROOT / "results" / run / "verdicts.json").read_text())["verdicts"] for run in JUDGED}
    assert {run: verdicts.judge(gather(run), verdicts.load_claims()) for run in committed} == committed
    shown = (ROOT / "docs" / "results.md").read_text()
    for claim, row in zip(verdicts.load_claims(), committed[REFERENCE], strict=True):
        assert f"| {claim['claim']} | {claim['original']} | {row['ours']} | {row['verdict']} | {row['reason']} |" in shown


def test_the_numbers_in_the_prose_are_those_of_the_records() -> None:
    def p50(run: str, engine: str) -> tuple[str, ...]:
        record = records.read(records.step_folder(run, "latency"))
        row = next(row for row in latency.compared_engines(record) if row["engine"] == engine)
        median, ends = latency.quantile(row)
        return tuple(f"{us:,.0f}" for us in (median, *ends))

    def winner(run: str) -> dict:
        return frontier.fastest_at(frontier.ran(records.read(records.step_folder(run, "faster"))), 94.0)

    half = {run: {(row["engine"], row["precision"]): row for row in precision.ran(
        records.read(records.step_folder(run, "half_precision")))} for run in ("epyc", "h200")}
    gpu, gpu_half = half["h200"]["torchscript", "float32"], half["h200"]["torchscript", "float16"]
    readme, results = (" ".join((ROOT / name).read_text().split()) for name in ("README.md", "docs/results.md"))
    xeon, epyc = winner("xeon"), winner("epyc")
    for sentence in (f"is {p50('xeon', 'torchscript-cpp')[0]} µs with the original's format",
                     f"and {p50('xeon', 'onednn-cpp')[0]} µs with the fastest", f"takes {xeon['us']:,.0f} µs at an",
                     f"accuracy of {xeon['test_accuracy']:.2f}%, {1 / xeon['ratio']:.1f}× faster"):
        assert sentence in readme
    for sentence in ("is {} µs ({} to {} over ten".format(*p50("epyc", "onednn-cpp")),
                     "and {} µs ({} to {}) with `torchscript-cpp`".format(*p50("epyc", "torchscript-cpp")),
                     f"faster there, too: {1 / half['epyc']['torchscript', 'bfloat16']['ratio']:.2f}×",
                     f"a median of {epyc['us']:,.0f} µs, {1 / epyc['ratio']:.1f}× faster",
                     "is {} µs ({} to {}) with `torchscript-cpp`".format(*p50("h200", "torchscript-cpp")),
                     "and {} µs ({} to {}) with `eager-cudagraph`".format(*p50("h200", "eager-cudagraph")),
                     f"for {gpu['gpu_ns'] / 1e3:.0f} of {latency.quantile(gpu)[0]:.0f} µs",
                     f"busy for only {gpu_half['gpu_ns'] / 1e3:.0f} µs",
                     "are {:.0f}, {:.0f} and {:.0f} µs.".format(*sorted(run["p50_ns"] / 1e3 for run in gpu_half["runs"]))):
        assert sentence in results


def test_the_reference_runs_are_those_that_are_committed() -> None:
    listed = subprocess.run(["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {name.split("/")[1] for name in listed.split()} == set(records.REFERENCES)


def test_the_reference_run_is_shown() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 120
    shown = {run for run in re.findall(r"(?:results|figures)/([\w-]+)/(?:report|verdicts|latency|\w+\.svg)", readme)}
    assert REFERENCE in shown and shown - {"quick", "name", "mine"} <= set(JUDGED)
    assert f'"run: str = \\"{REFERENCE}\\"' in (ROOT / "notebooks" / "6_report.ipynb").read_text()
    assert {f"!/results/{REFERENCE}/", f"!/figures/{REFERENCE}/"} <= {*(ROOT / ".gitignore").read_text().splitlines()}


def test_the_packages_hold_every_subpackage_and_all_their_files() -> None:
    installed = PYPROJECT["tool"]["setuptools"]
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    folders = {path.parent for path in modules}
    assert set(installed["packages"]) == {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []
    others = {path for package in PACKAGES for path in (ROOT / package).rglob("*.*")
              if path.is_file() and path.suffix not in (".py", ".pyc")}
    data = {path for package, patterns in installed["package-data"].items() for pattern in patterns
            for path in (ROOT / package.replace(".", "/")).glob(pattern)}
    assert data == others and {"infer.cpp", "CMakeLists.txt", "index.html.j2"} <= {path.name for path in data}


def test_a_clone_is_light() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    sizes = {name: (ROOT / name).stat().st_size for name in listed if name and (ROOT / name).is_file()}
    assert len(sizes) > 100
    assert sum(sizes.values()) <= 25e6
    assert {name: size for name, size in sizes.items() if size > 11e6} == {}
