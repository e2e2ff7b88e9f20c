"""The code that a step runs: whether the step must run again, and whether a record's code was committed.

Code is a notebook's code cells and the statements of the packages' modules. Outputs, prose, comments, docstrings and the times
of files are not part of it.
"""

import ast
import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from cifar_lib import ROOT

PACKAGES = ("cifar_lib", "cifar_bench")
NOTEBOOKS = {"train": "1_train", "export": "2_export", "latency": "3_latency", "half_precision": "4_half_precision",
             "faster": "5_faster"}  # what makes the record of each step
SHOWN = ("analysis", "report")  # subpackages that only show what was measured
CODE = (*PACKAGES, "notebooks", "profiles", "Snakefile", "requirements.lock", "pyproject.toml")

# Variables with which git would use another repository (`git rev-parse --local-env-vars`).
GIT_VARIABLES = {"GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX",
                 "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE"}


def digest(notebook: str, without: Iterable[str] = SHOWN) -> str:
    """SHA-256 of the code of notebooks/`notebook`.ipynb: its cells and all that they import, except some subpackages."""
    path = ROOT / "notebooks" / f"{notebook}.ipynb"
    cells = notebook_code(path.read_text(encoding="utf-8"))
    parts = [ast.dump(ast.parse(cells))]
    for module in _reached(cells, set(without)):
        parts.append(_statements(module.read_text(encoding="utf-8")))
        if module.name == "__init__.py":  # a subpackage's other sources: those of the C++ program
            sources = sorted(path for path in module.parent.glob("*") if path.suffix in (".cpp", ".hpp", ".txt"))
            parts += [path.read_text(encoding="utf-8") for path in sources]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def training_digest() -> str:
    """The digest of the code that decides what weights a training run ends with: the cells of 1_train, and cifar_lib."""
    subpackages = (path.name for path in (ROOT / PACKAGES[1]).iterdir() if path.is_dir())
    return digest("1_train", without=subpackages)


def step_digest(step: str) -> str | None:
    """The digest of the code that makes the record of a step ("latency" or "train/seed0", say); None where no notebook does."""
    kind = step.split("/")[0]
    return training_digest() if kind == "train" else digest(NOTEBOOKS[kind]) if kind in NOTEBOOKS else None


def notebook_code(text: str) -> str:
    """The code cells of a notebook, joined."""
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")


def imported(source: str) -> Iterator[str]:
    """The project's modules that a piece of code imports, also within functions, as dotted names (maybe of a member)."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


def module_file(name: str) -> Path:
    """The file of the module with this dotted name, or of the module that has this member."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    raise ModuleNotFoundError(name)


def commit() -> str | None:
    """The commit of the clone, or of the archive that it was unpacked from (`git archive` writes it there)."""
    if (ROOT / ".git").exists():
        return git("rev-parse", "HEAD") or None
    try:
        node = (ROOT / ".git_archival.txt").read_text(encoding="utf-8").split()[-1]
    except (OSError, IndexError):
        return None
    return None if "$" in node else node


def uncommitted() -> list[str] | None:
    """The code files that differ from the commit; notebooks are compared by their code cells. None without a git repository."""
    if not ((ROOT / ".git").exists() and git("rev-parse", "HEAD")):
        return None
    changed = git("diff", "--name-only", "HEAD", "--", *CODE).splitlines()
    new = git("ls-files", "--others", "--exclude-standard", "--", *CODE).splitlines()
    return [path for path in changed + new if not (path.endswith(".ipynb") and _same_cells(path))]


def git(*arguments: str) -> str:
    """What git prints when run in the clone; empty where it is missing or fails."""
    try:
        own = {name: value for name, value in os.environ.items() if name not in GIT_VARIABLES}
        process = subprocess.run(["git", "-C", str(ROOT), *arguments], env=own, capture_output=True, encoding="utf-8",
                                 timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return process.stdout.strip()


def _same_cells(path: str) -> bool:
    try:
        return notebook_code(git("show", f"HEAD:{path}")) == notebook_code((ROOT / path).read_text(encoding="utf-8"))
    except (OSError, ValueError, LookupError, TypeError):  # not a notebook
        return False


def _reached(source: str, without: set[str]) -> list[Path]:
    """The files of the modules that a piece of code imports, directly or indirectly, sorted by name."""
    files: set[Path] = set()
    waiting = [source]
    while waiting:
        for name in imported(waiting.pop()):
            file = module_file(name)
            if file not in files and without.isdisjoint(name.split(".")[1:2]):
                files.add(file)
                waiting.append(file.read_text(encoding="utf-8"))
    return sorted(files)


def _statements(source: str) -> str:
    """A module's syntax tree, without docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:]
    return ast.dump(tree)
