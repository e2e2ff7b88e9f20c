"""Code is what cells and statements do: opening, saving, formatting and touching change nothing, and a statement does."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_bench.records import code
from cifar_lib import ROOT

Edit = Callable[[Path], None]


def notebook(*cells: str, output: str = "") -> str:
    """The text of a notebook: prose, then these code cells, run where there is an `output`."""
    outputs = [{"output_type": "stream", "name": "stdout", "text": [output]}] if output else []
    made = [{"cell_type": "code", "id": f"{number}{output}", "metadata": {"tags": [output]}, "outputs": outputs,
             "execution_count": number if output else None, "source": cell.splitlines(keepends=True)}
            for number, cell in enumerate(cells)]
    prose = {"cell_type": "markdown", "id": "prose", "metadata": {}, "source": f"# Latency {output}"}
    return json.dumps({"cells": [prose, *made], "metadata": {"ran": output}, "nbformat": 4, "nbformat_minor": 5})


CELLS = ["from cifar_lib import model\nfrom cifar_bench.report import style\n",
         "def show():\n    from cifar_bench.engines import infer  # only here\n    return infer\n"]
FILES = {
    "cifar_lib/__init__.py": "ROOT = 1\n",
    "cifar_lib/data.py": '"""Images."""\nSIDE = 32\n',
    "cifar_lib/model.py": '"""The network."""\nfrom cifar_lib import data\n\n\ndef area():\n    """In pixels."""\n'
                          "    return data.SIDE ** 2  # squared\n",
    "cifar_lib/unused.py": "VALUE = 1\n",
    "cifar_bench/engines/infer/__init__.py": "from cifar_lib import ROOT\n",
    "cifar_bench/engines/infer/infer.cpp": "int main() {}\n",
    "cifar_bench/engines/infer/npy.hpp": "#pragma once\n",
    "cifar_bench/engines/infer/CMakeLists.txt": "project(infer)\n",
    "cifar_bench/analysis/statistics.py": "LEVEL = 0.95\n",
    "cifar_bench/report/style.py": "from cifar_bench.analysis.statistics import LEVEL\n",
    "notebooks/3_latency.ipynb": notebook(*CELLS),
}


def git(*arguments: str) -> None:
    subprocess.run(["git", "-C", code.ROOT, "-c", "user.name=a", "-c", "user.email=b", *arguments], check=True)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small clone with a library and a notebook, all committed."""
    root = tmp_path / "clone"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    monkeypatch.setattr(code, "ROOT", root)
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "code")
    return root


def replace(name: str, old: str, new: str) -> Edit:
    def edit(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new))

    return edit


def save(*cells: str, output: str = "") -> Edit:
    return lambda root: (root / "notebooks/3_latency.ipynb").write_text(notebook(*cells, output=output)) and None


def touch(root: Path) -> None:
    for name in FILES:
        os.utime(root / name, (0, 0))


def indent(root: Path) -> None:
    path = root / "notebooks/3_latency.ipynb"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=1))


# ---- the digest


NOTHING_DONE_DIFFERENTLY = {
    "outputs of a run": save(*CELLS, output="0.1 s"),
    "prose": replace("notebooks/3_latency.ipynb", "# Latency", "# How long it takes"),
    "the notebook's layout": indent,
    "a comment in a cell": save(CELLS[0] + "# all of it\n", CELLS[1]),
    "a comment in the library": replace("cifar_lib/model.py", "# squared", "# of the image"),
    "a module's docstring": replace("cifar_lib/model.py", "The network.", "A network."),
    "the docstring of a module that is imported by one": replace("cifar_lib/data.py", "Images.", "Photos."),
    "a docstring less": replace("cifar_lib/model.py", '    """In pixels."""\n', ""),
    "blank lines": replace("cifar_lib/model.py", "\n\n\n", "\n\n"),
    "a module that it does not import": replace("cifar_lib/unused.py", "1", "2"),
    "what it only shows with": replace("cifar_bench/report/style.py", "LEVEL\n", "LEVEL\nCOLOUR = 1\n"),
    "what is only analysed with": replace("cifar_bench/analysis/statistics.py", "0.95", "0.99"),
    "the times of all files": touch,
}
SOMETHING_DONE_DIFFERENTLY = {
    "a cell": save(CELLS[0] + "print(model)\n", CELLS[1]),
    "a cell less": save(CELLS[0]),
    "the cells' order": save(*CELLS[::-1]),
    "a library's statement": replace("cifar_lib/model.py", "** 2", "* 2"),
    "a statement in an imported module's module": replace("cifar_lib/data.py", "32", "28"),
    "the package itself": replace("cifar_lib/__init__.py", "1", "2"),
    "the C++ program": replace("cifar_bench/engines/infer/infer.cpp", "{}", "{ return 0; }"),
    "a header of the C++ program": replace("cifar_bench/engines/infer/npy.hpp", "once", "twice"),
    "how the C++ program is built": replace("cifar_bench/engines/infer/CMakeLists.txt", "infer", "timer"),
}


@pytest.mark.parametrize("edit", NOTHING_DONE_DIFFERENTLY.values(), ids=NOTHING_DONE_DIFFERENTLY.keys())
def test_a_step_is_the_same_whatever_its_files_look_like(clone: Path, edit: Edit) -> None:
    before = code.digest("3_latency")
    edit(clone)
    assert code.digest("3_latency") == before


@pytest.mark.parametrize("edit", SOMETHING_DONE_DIFFERENTLY.values(), ids=SOMETHING_DONE_DIFFERENTLY.keys())
def test_a_step_is_another_when_it_does_something_else(clone: Path, edit: Edit) -> None:
    before = code.digest("3_latency")
    edit(clone)
    assert code.digest("3_latency") != before


@pytest.mark.parametrize("edit", ["what it only shows with", "what is only analysed with"])
def test_what_shows_is_part_of_a_step_without_exceptions(clone: Path, edit: str) -> None:
    before = code.digest("3_latency", without=())
    NOTHING_DONE_DIFFERENTLY[edit](clone)
    assert code.digest("3_latency", without=()) != before


def test_an_import_of_the_whole_package_is_followed(clone: Path) -> None:
    save("import cifar_lib\n")(clone)
    before = code.digest("3_latency")
    replace("cifar_lib/__init__.py", "1", "2")(clone)
    assert code.digest("3_latency") != before


def test_an_import_of_what_is_not_there_is_named(clone: Path) -> None:
    save("from cifar_lib.nowhere import nothing\n")(clone)
    shutil.rmtree(clone / "cifar_lib")
    with pytest.raises(ModuleNotFoundError, match=r"cifar_lib\.nowhere"):
        code.digest("3_latency")


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of this project's own code."""
    for name in ("cifar_lib", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    monkeypatch.setattr(code, "ROOT", tmp_path)
    return tmp_path


def add_a_statement(folder: Path) -> None:
    for path in folder.rglob("*.py"):
        path.write_text(path.read_text() + "\nADDED = 1\n")


MEASURE = ["1_train", "2_export", "3_latency", "4_half_precision", "5_faster"]


@pytest.mark.parametrize("room", ["analysis", "report"])
def test_another_figure_or_statistic_asks_for_another_report_and_no_other_measurement(copy: Path, room: str) -> None:
    before, report = {name: code.digest(name) for name in MEASURE}, code.digest("6_report", without=())
    add_a_statement(copy / "cifar_lib" / room)
    assert {name: code.digest(name) for name in MEASURE} == before
    assert code.digest("6_report", without=()) != report


@pytest.mark.parametrize(
    ("room", "asked"),
    [("training", ["1_train"]), ("engines", MEASURE[1:]),
     ("benchmark", MEASURE[2:])],
)
def test_what_another_step_does_asks_for_no_measurement_of_this_one(copy: Path, room: str, asked: list[str]) -> None:
    before = {name: code.digest(name) for name in MEASURE}
    add_a_statement(copy / "cifar_lib" / room)
    assert [name for name in MEASURE if code.digest(name) != before[name]] == asked


# ---- what is committed


def test_a_fresh_clone_has_no_changes(clone: Path) -> None:
    assert code.uncommitted() == []


def test_a_notebook_that_was_run_and_saved_is_no_change(clone: Path) -> None:
    save(*CELLS, output="0.1 s")(clone)
    indent(clone)
    assert code.uncommitted() == []


def test_a_notebook_with_another_cell_is_named(clone: Path) -> None:
    save(CELLS[0] + "print(model)\n", CELLS[1], output="0.1 s")(clone)
    assert code.uncommitted() == ["notebooks/3_latency.ipynb"]


@pytest.mark.parametrize("stage", [False, True], ids=["in the folder", "staged"])
def test_new_changed_and_removed_code_is_named(clone: Path, stage: bool) -> None:
    replace("cifar_lib/model.py", "** 2", "* 2")(clone)
    (clone / "notebooks/new.ipynb").write_text(notebook(*CELLS))
    (clone / "cifar_lib/data.py").unlink()
    if stage:
        git("add", ".")
    assert sorted(code.uncommitted()) == ["cifar_lib/data.py", "cifar_lib/model.py", "notebooks/new.ipynb"]


@pytest.mark.parametrize("content", ["", "{}", "[]", "no notebook", '{"cells": 3}', '{"cells": [3]}'])
def test_a_notebook_that_is_none_any_more_is_named(clone: Path, content: str) -> None:
    (clone / "notebooks/3_latency.ipynb").write_text(content)
    assert code.uncommitted() == ["notebooks/3_latency.ipynb"]


def test_a_removed_notebook_is_named(clone: Path) -> None:
    (clone / "notebooks/3_latency.ipynb").unlink()
    assert code.uncommitted() == ["notebooks/3_latency.ipynb"]


def test_results_figures_and_prose_are_no_code(clone: Path) -> None:
    for name in ("results/lab/train/record.json", "figures/lab/new.svg", "README.md"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text("2\n")
    assert code.uncommitted() == []


def test_code_without_a_repository_has_no_known_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "ROOT", tmp_path)
    assert (code.commit(), code.uncommitted()) == (None, None)


def test_code_within_another_repository_is_not_taken_for_its(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "ROOT", clone / "cifar_lib")
    assert (code.commit(), code.uncommitted()) == (None, None)


def test_another_repository_that_the_environment_names_is_not_asked(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = code.commit()
    subprocess.run(["git", "init", "--quiet", tmp_path / "other"], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert own and (code.commit(), code.uncommitted()) == (own, [])


def test_of_a_clone_that_git_does_not_trust_nothing_is_known(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # as where another user owns the folder
    assert (code.commit(), code.uncommitted()) == (None, None)


def test_an_archive_knows_the_commit_that_it_was_made_of(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (".gitattributes", ".git_archival.txt"):
        shutil.copy(ROOT / name, clone)
    git("add", ".")
    git("commit", "--quiet", "-m", "archived")
    commit = code.commit()
    (tmp_path / "unpacked").mkdir()
    archive = subprocess.run(["git", "-C", clone, "archive", "HEAD"], capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", tmp_path / "unpacked"], input=archive.stdout, check=True)
    monkeypatch.setattr(code, "ROOT", tmp_path / "unpacked")
    assert commit and (code.commit(), code.uncommitted()) == (commit, None)
