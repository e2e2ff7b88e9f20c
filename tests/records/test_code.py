"""A step runs again when its code cells or the statements that they import change, and for nothing else."""

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
    """The text of a notebook: prose, then these code cells, executed where there is an `output`."""
    outputs = [{"output_type": "stream", "name": "stdout", "text": [output]}] if output else []
    code_cells = [{"cell_type": "code", "id": f"{number}{output}", "metadata": {"tags": [output]}, "outputs": outputs,
                   "execution_count": number if output else None, "source": cell.splitlines(keepends=True)}
                  for number, cell in enumerate(cells)]
    prose = {"cell_type": "markdown", "id": "prose", "metadata": {}, "source": f"# Latency {output}"}
    return json.dumps({"cells": [prose, *code_cells], "metadata": {"ran": output}, "nbformat": 4, "nbformat_minor": 5})


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
    "cifar_bench/engines/infer/onednn.hpp": "#pragma once\n",
    "cifar_bench/engines/infer/CMakeLists.txt": "project(infer)\n",
    "cifar_bench/analysis/statistics.py": "LEVEL = 0.95\n",
    "cifar_bench/report/style.py": "from cifar_bench.analysis.statistics import LEVEL\n",
    "notebooks/3_latency.ipynb": notebook(*CELLS),
}


def git(*arguments: str) -> None:
    subprocess.run(["git", "-C", code.ROOT, "-c", "user.name=a", "-c", "user.email=b", *arguments], check=True)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small clone with both packages and a notebook, all committed."""
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


NO_CODE_CHANGE = {
    "outputs of a run": save(*CELLS, output="0.1 s"),
    "prose": replace("notebooks/3_latency.ipynb", "# Latency", "# Time"),
    "the notebook's layout": indent,
    "a comment in a cell": save(CELLS[0] + "# all of it\n", CELLS[1]),
    "a comment in a module": replace("cifar_lib/model.py", "# squared", "# of the image"),
    "the docstring of an imported module's module": replace("cifar_lib/data.py", "Images.", "Pixels."),
    "a docstring less": replace("cifar_lib/model.py", '    """In pixels."""\n', ""),
    "a module that it does not import": replace("cifar_lib/unused.py", "1", "2"),
    "how it is shown": replace("cifar_bench/report/style.py", "LEVEL\n", "LEVEL\nCOLOR = 1\n"),
    "how it is analyzed": replace("cifar_bench/analysis/statistics.py", "0.95", "0.99"),
    "the times of all files": touch,
}
CODE_CHANGE = {
    "a cell": save(CELLS[0] + "print(model)\n", CELLS[1]),
    "the cells' order": save(*CELLS[::-1]),
    "a module's statement": replace("cifar_lib/model.py", "** 2", "* 2"),
    "a statement in an imported module's module": replace("cifar_lib/data.py", "32", "28"),
    "the package itself": replace("cifar_lib/__init__.py", "1", "2"),
    "the C++ program": replace("cifar_bench/engines/infer/infer.cpp", "{}", "{ return 0; }"),
    "a header of the C++ program": replace("cifar_bench/engines/infer/onednn.hpp", "once", "twice"),
    "how the C++ program is built": replace("cifar_bench/engines/infer/CMakeLists.txt", "infer", "timer"),
}


@pytest.mark.parametrize("edit", NO_CODE_CHANGE.values(), ids=NO_CODE_CHANGE.keys())
def test_a_step_does_not_run_again_for_what_is_not_its_code(clone: Path, edit: Edit) -> None:
    before = code.digest("3_latency")
    edit(clone)
    assert code.digest("3_latency") == before


@pytest.mark.parametrize("edit", CODE_CHANGE.values(), ids=CODE_CHANGE.keys())
def test_a_step_runs_again_when_its_code_changes(clone: Path, edit: Edit) -> None:
    before = code.digest("3_latency")
    edit(clone)
    assert code.digest("3_latency") != before


@pytest.mark.parametrize("edit", ["how it is shown", "how it is analyzed"])
def test_the_report_runs_again_when_what_it_shows_with_changes(clone: Path, edit: str) -> None:
    before = code.digest("3_latency", without=())
    NO_CODE_CHANGE[edit](clone)
    assert code.digest("3_latency", without=()) != before


def test_an_import_of_a_missing_module_is_named(clone: Path) -> None:
    save("from cifar_lib.nowhere import nothing\n")(clone)
    shutil.rmtree(clone / "cifar_lib")
    with pytest.raises(ModuleNotFoundError, match=r"cifar_lib\.nowhere"):
        code.digest("3_latency")


MEASURE = ["1_train", "2_export", "3_latency", "4_half_precision", "5_faster"]


def digest_of(name: str) -> str:
    return code.training_digest() if name == "1_train" else code.digest(name)


@pytest.mark.parametrize(
    ("subpackage", "again"),
    [("cifar_bench/analysis", []), ("cifar_bench/report", []), ("cifar_lib/training", ["1_train"]),
     ("cifar_bench/engines", MEASURE[1:]), ("cifar_bench/timing", MEASURE[1:])],
)
def test_a_change_runs_again_the_steps_that_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subpackage: str, again: list[str]
) -> None:
    for name in (*code.PACKAGES, "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    monkeypatch.setattr(code, "ROOT", tmp_path)
    before, report = list(map(digest_of, MEASURE)), code.digest("6_report", without=())
    for path in (tmp_path / subpackage).rglob("*.py"):
        path.write_text(path.read_text() + "\nADDED = 1\n")
    assert [name for name, earlier in zip(MEASURE, before) if digest_of(name) != earlier] == again
    assert (code.digest("6_report", without=()) != report) == (subpackage in ("cifar_bench/analysis", "cifar_bench/report"))


# ---- what is committed


def test_a_notebook_that_was_run_and_saved_is_no_change(clone: Path) -> None:
    assert code.uncommitted() == []
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


@pytest.mark.parametrize("content", [None, "", '{"cells": [3]}'])
def test_a_removed_or_damaged_notebook_is_named(clone: Path, content: str | None) -> None:
    path = clone / "notebooks/3_latency.ipynb"
    path.unlink() if content is None else path.write_text(content)
    assert code.uncommitted() == ["notebooks/3_latency.ipynb"]


def test_results_figures_and_prose_are_not_code(clone: Path) -> None:
    for name in ("results/lab/train/record.json", "figures/lab/new.svg", "README.md"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text("2\n")
    assert code.uncommitted() == []


def test_without_a_repository_nothing_is_known_though_the_clone_lies_within_another(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "ROOT", clone / "cifar_lib")
    assert (code.commit(), code.uncommitted()) == (None, None)


def test_a_repository_that_the_environment_names_is_not_used(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = code.commit()
    subprocess.run(["git", "init", "--quiet", tmp_path / "other"], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert own and (code.commit(), code.uncommitted()) == (own, [])


def test_nothing_is_known_of_a_clone_that_git_does_not_trust(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # as where another user owns the folder
    assert (code.commit(), code.uncommitted()) == (None, None)


def test_an_archive_knows_its_commit(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
