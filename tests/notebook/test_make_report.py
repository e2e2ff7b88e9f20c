"""`make report`: which steps run again, which runs it refuses to write, and that a user's configuration does not matter.

The steps themselves are replaced by a script.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from clones import REFERENCE, MakeReport, clone, commit

from cifar_lib import ROOT

STEPS = ["1_train", "2_export", "3_latency", "4_half_precision", "5_faster", "6_report"]


@pytest.fixture(scope="module")
def make_report(tmp_path_factory: pytest.TempPathFactory) -> MakeReport:
    """In a clone of its own with a complete run, `done`; a test that changes something completes the run again."""
    folder = clone(tmp_path_factory.mktemp("made") / "clone")
    commit(folder)
    make_report = MakeReport(folder)
    assert steps_of_done(make_report) == STEPS
    return make_report


def steps_of_done(make_report: MakeReport, **environ: str) -> list[str]:
    """The steps that run to complete the run `done`."""
    steps, process = make_report("RUN=done", **environ)
    assert process.returncode == 0, process.stderr
    return steps


def change_a_parameter(folder: Path, before: int = 1000, after: int = 900) -> None:
    path = folder / "profiles" / "smoke.yaml"
    plan = path.read_text()
    assert f"export: {{test_images: {before}}}" in plan
    path.write_text(plan.replace(f"export: {{test_images: {before}}}", f"export: {{test_images: {after}}}"))


def change_a_module(folder: Path) -> None:
    path = folder / "cifar_bench" / "engines" / "export.py"
    path.write_text(path.read_text() + "\nANOTHER = 1\n")


def test_a_complete_run_has_nothing_to_do_after_touching_files_and_changing_comments(make_report: MakeReport) -> None:
    for path in [*make_report.folder.glob("notebooks/*.ipynb"), *make_report.folder.glob("results/shipped/**/*.*"),
                 *make_report.folder.glob("results/done/**/*.*")]:
        path.touch()
    module = make_report.folder / "cifar_bench" / "engines" / "export.py"
    module.write_text(module.read_text() + "# a comment\n")
    notebook = make_report.folder / "notebooks" / "1_train.ipynb"
    content = json.loads(notebook.read_text())
    content["cells"][0]["source"] = ["# Another title"]
    notebook.write_text(json.dumps(content))
    assert steps_of_done(make_report) == []


@pytest.mark.parametrize("content", ["", "{", '{"schema": 2}'], ids=["empty", "cut", "of another version"])
def test_a_damaged_record_is_refused_in_one_sentence_and_made_again(make_report: MakeReport, content: str) -> None:
    record = make_report.folder / "results" / "done" / "latency" / "record.json"
    record.write_text(content)
    steps, process = make_report("RUN=done")
    assert process.returncode == 0 and steps == ["3_latency", "6_report"]
    assert process.stdout.splitlines()[0].startswith(str(Path("results/done/latency/record.json")))


def test_other_parameters_are_noticed_without_snakemakes_own_notes(make_report: MakeReport) -> None:
    shutil.rmtree(make_report.folder / ".snakemake")
    assert steps_of_done(make_report) == []
    shutil.rmtree(make_report.folder / ".snakemake")
    change_a_parameter(make_report.folder, 1000, 800)
    assert steps_of_done(make_report)[0] == "2_export"
    change_a_parameter(make_report.folder, 800, 1000)
    assert steps_of_done(make_report)[0] == "2_export"


def test_a_record_that_was_measured_by_hand_is_judged(make_report: MakeReport) -> None:
    path = make_report.folder / "results" / "done" / "verdicts.json"
    path.write_text(json.dumps({"records": {"done/latency/record.json": "another"}}))
    os.utime(path, (2**31, 2**31))
    assert steps_of_done(make_report) == ["6_report"]


@pytest.mark.parametrize("change", [change_a_parameter, change_a_module])
def test_a_step_that_failed_after_writing_its_record_is_not_run_again(
    make_report: MakeReport, change: Callable[[Path], None]
) -> None:
    change(make_report.folder)
    steps, process = make_report("RUN=done", FAILS_AFTER="2_export")
    assert process.returncode != 0 and "make plan" in process.stderr and steps[-1] == "2_export"
    assert sorted(steps_of_done(make_report)) == STEPS[2:]


def test_an_old_record_does_not_replace_the_one_of_a_step_that_failed(make_report: MakeReport) -> None:
    only_for_latency = make_report.folder / "cifar_bench" / "timing" / "loadgen.py"
    only_for_latency.write_text(only_for_latency.read_text() + "\nANOTHER = 1\n")
    steps, process = make_report("RUN=done", FAILS_BEFORE="3_latency")
    assert process.returncode != 0 and steps == ["3_latency"]
    assert steps_of_done(make_report) == ["3_latency", "6_report"]


def test_a_new_seed_of_a_network_that_5_faster_compares_is_judged_without_measuring_again(make_report: MakeReport) -> None:
    plan = make_report.folder / "profiles" / "smoke.yaml"
    plan.write_text(plan.read_text().replace("engines: [onnxruntime], precisions: [int8]", "networks: [student]"))
    for name, steps in (("export", ["5_faster", "6_report"]), ("train/seed0", ["6_report"])):
        folder = make_report.folder / "results" / "student" / name
        folder.mkdir(parents=True)
        (folder / "record.json").touch()
        assert steps_of_done(make_report) == steps


@pytest.mark.parametrize(
    ("command", "error"),
    [(["report", "CLUSTER=slrum"], "There is no cluster profile slrum: CLUSTER=slurm is one"),
     (["report", "PROFILE=slow"], "There is no profile slow: choose one of full, "),
     (["report", "COMPARE=nowhere"], "There is no run nowhere under results/ to compare with."),
     (["report", "COMPARE=../results/xeon"], "There is no run ../results/xeon under results/ to compare with."),
     (["machines"], 'make machines needs NODES="')],
)
def test_a_wrong_option_is_refused_in_one_sentence(make_report: MakeReport, command: list[str], error: str) -> None:
    steps, process = make_report(*command[1:], target=command[0])
    assert process.returncode != 0 and steps == []
    assert error in process.stderr


def test_reference_runs_are_written_only_where_that_is_asked_for(make_report: MakeReport) -> None:
    sentence = "{0} is a reference run of this project: choose another name, or delete results/{0} first."
    for run in ("shipped", REFERENCE):
        steps, process = make_report(f"RUN={run}")
        assert process.returncode != 0 and steps == []
        assert process.stderr.splitlines()[0] == sentence.format(run)
    shutil.rmtree(make_report.folder / "results" / REFERENCE)
    steps, process = make_report(f"RUN={REFERENCE}")
    assert process.returncode == 0, process.stderr
    assert len(steps) == len(STEPS) and steps[-1] == STEPS[-1]
    steps, process = make_report(f"RUN={REFERENCE}")
    assert steps == [] and sentence.format(REFERENCE) in process.stderr


# ---- stop means stop


def started_by(make_report: MakeReport) -> list[psutil.Process]:
    """The processes of a command that still run."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("STEPS") == str(make_report.steps) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def hanging(make_report: MakeReport, step: str, *arguments: str, **options: str) -> subprocess.Popen:
    """The command, while `step` runs."""
    make = make_report.start(*arguments, HANGS=step, **options)
    deadline = time.monotonic() + 60
    while step not in make_report.steps.read_text():
        assert make.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    return make


@pytest.mark.parametrize(
    ("told", "number"),
    [("make", signal.SIGTERM), ("make", signal.SIGINT), ("make", signal.SIGHUP), ("snakemake", signal.SIGTERM),
     ("snakemake", signal.SIGHUP)],
)
def test_what_is_told_to_stop_ends_with_all_it_started(make_report: MakeReport, told: str, number: signal.Signals) -> None:
    for step in ("half_precision", "faster"):
        (make_report.folder / "results" / "done" / step / "record.json").unlink(missing_ok=True)
    make = hanging(make_report, "5_faster", "RUN=done")
    process, = [process for process in started_by(make_report) if told in map(os.path.basename, process.cmdline()[:2])]
    process.send_signal(number)
    _, errors = make.communicate(timeout=20)
    assert make.returncode != 0 and not started_by(make_report)
    assert errors.splitlines()[0] == "Stopped: the same command continues the run." and "no reason" not in errors
    assert steps_of_done(make_report) == ["5_faster", "6_report"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_make_machines_ends_with_all_it_started(make_report: MakeReport, number: signal.Signals) -> None:
    make = hanging(make_report, "2_export", "RUN=kind", "NODES=a b", target="machines", STUBBORN="")
    left = started_by(make_report)
    make.send_signal(number)
    make.communicate(timeout=20)
    if number == signal.SIGKILL:
        psutil.wait_procs(left, 20)
    assert make.returncode != 0 and not started_by(make_report)


# ---- a user's own configuration


@pytest.mark.parametrize(
    "options",
    [{"SNAKEMAKE_PROFILE": "mine"}, {"HOME": "/proc/nohome"}, {"PYTHONWARNINGS": "error"},
     {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}],  # an encoding that is not UTF-8
    ids=lambda options: next(iter(options)),
)
def test_a_users_own_configuration_does_not_matter(make_report: MakeReport, options: dict[str, str]) -> None:
    (make_report.folder / "mine").mkdir(exist_ok=True)
    (make_report.folder / "mine" / "config.yaml").write_text("dry-run: true\nexecutor: slurm\n")
    (make_report.folder / "results" / "done" / "half_precision" / "record.json").unlink()
    assert steps_of_done(make_report, **options) == ["4_half_precision", "6_report"]


@pytest.mark.parametrize("name", ["PROFILE", "RUN", "COMPARE", "CLUSTER", "CORES", "NODES", "GPU", "FLAGS", "PYTHON"])
def test_a_variable_of_the_environment_is_not_taken_for_one_of_the_command_line(make_report: MakeReport, name: str) -> None:
    commands, cluster = [], [] if name == "CLUSTER" else ["CLUSTER=slurm"]
    for value in ({name: "slurm"}, {}):  # a cluster profile, too
        options = {key: text for key, text in os.environ.items() if key != name}
        commands.append(subprocess.run(["make", "--dry-run", "--always-make", "report", *cluster], cwd=make_report.folder,
                                       check=True, capture_output=True, text=True, env=options | value).stdout)
    assert commands[0] == commands[1]
    process = subprocess.run(["make", "-e", "plan"], cwd=make_report.folder, capture_output=True, text=True)
    assert process.returncode == 2 and "leave -e out" in process.stderr


# In place of Python where .venv is made. Its pip installs nothing, and writes down its arguments and settings.
SETS_UP = f"""#!/bin/sh
[ "$2" = venv ] || exit 0
mkdir -p .venv/bin
cat > .venv/bin/pip << 'END'
#!/bin/sh
case "$*" in *"config list") exec {sys.executable} -m pip "$@"; esac
echo "$*" >> pip.args
env | grep ^PIP_ >> pip.settings
END
printf '#!/bin/sh\ncase $1 in -I|-c) exit $BROKEN; esac; exec {sys.executable} "$@"' > .venv/bin/python
chmod +x .venv/bin/pip .venv/bin/python
"""


def set_up(folder: Path, target: str = ".venv/ready", **options: str) -> tuple[str, str]:
    """The arguments and settings of pip in `make .venv/ready`; empty where there is nothing to do."""
    files = folder / "pip.args", folder / "pip.settings"
    for path in files:
        path.write_text("")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    subprocess.run(["make", target, f"PYTHON={folder / 'python'}"], cwd=folder, check=True, capture_output=True,
                   env={**environ, "HOME": str(folder), **options})
    return files[0].read_text(), files[1].read_text()


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with what is needed to set up .venv, and a script in place of Python."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "python").write_text(SETS_UP)
    (folder / "python").chmod(0o755)
    return folder


CONFIGURATION = """[global]
prefix = /elsewhere
quiet = 3
user = true
python = /elsewhere/python
index-url = https://global.example
extra-index-url =
    https://one.example
    https://two.example/a b
[install]
require-hashes = true
only-binary = :all:
index-url = https://install.example
timeout = 5
"""


@pytest.mark.parametrize("place", ["pip.conf", ".pip/pip.conf", ".config/pip/pip.conf"])
def test_of_pips_settings_only_those_that_say_how_to_fetch_packages_count(bare: Path, place: str) -> None:
    (bare / place).parent.mkdir(parents=True, exist_ok=True)
    (bare / place).write_text(CONFIGURATION)
    given = {"PIP_CONFIG_FILE": str(bare / place)} if place == "pip.conf" else {}
    arguments, settings = set_up(bare, PIP_TIMEOUT="7", PIP_CERT="/a/certificate", PIP_NO_INDEX="1", PIP_CONSTRAINT="/a/file",
                                 PIP_target="/elsewhere", PIP_USER="1", PIP_NO_BINARY="torch", **given)
    assert {*settings.splitlines()} >= {
        "PIP_timeout=7", "PIP_cert=/a/certificate", "PIP_no_index=1", "PIP_index_url=https://install.example",
        "PIP_extra_index_url= https://one.example https://two.example/a b", f"PIP_CONFIG_FILE={os.devnull}"}
    assert not re.search("prefix|quiet|user|python|hashes|binary|constraint|target", settings, re.IGNORECASE)
    assert "-r requirements.lock" in arguments


def test_an_environment_that_does_not_work_is_not_ready(bare: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        set_up(bare, BROKEN="1")
    assert not (bare / ".venv" / "ready").exists()
    assert set_up(bare)[0] != ""


def test_snakemakes_executor_for_slurm_is_installed_where_it_is_missing(bare: Path) -> None:
    set_up(bare)
    assert set_up(bare, target="executor")[0] == ""
    arguments, settings = set_up(bare, target="executor", BROKEN="1", PIP_PREFIX="/elsewhere")
    assert arguments.strip().endswith("--constraint requirements.lock --editable .[slurm]") and "/elsewhere" not in settings
    command = ["make", "--dry-run", "report", f"PYTHON={bare / 'python'}", "CLUSTER=slurm"]
    shutil.copytree(ROOT / "profiles" / "slurm", bare / "profiles" / "slurm")
    planned = subprocess.run(command, cwd=bare, check=True, capture_output=True, text=True).stdout
    assert planned.index("[slurm]") < planned.index("snakemake --workflow-profile profiles/slurm")


def test_an_environment_that_was_copied_or_moved_is_made_again(bare: Path) -> None:
    assert set_up(bare)[0] != ""
    assert set_up(bare)[0] == ""
    copied = bare.with_name("copied")
    shutil.copytree(bare, copied)
    assert set_up(copied)[0] != ""
    assert set_up(bare)[0] == ""
    assert set_up(bare.rename(bare.with_name("renamed")))[0] != ""
