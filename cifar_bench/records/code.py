"""Which code a step runs: what decides whether it must run again, and whether a record's code was committed.

Code is what a notebook's code cells and the packages' statements do. Outputs, prose, comments and docstrings are no part of
it, nor is the time at which a file was touched.
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
SHOWN = ("analysis", "report")  # rooms that show what was measured: no measurement depends on them
CODE = (*PACKAGES, "notebooks", "profiles", "Snakefile", "requirements.lock", "pyproject.toml")

# Variables by which git would look into another repository (`git rev-parse --local-env-vars`).
ANOTHERS = {"GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE"}


def digest(notebook: str, without: Iterable[str] = SHOWN) -> str:
    """SHA-256 of what notebooks/`notebook`.ipynb runs: its cells and the modules that they import, but for some rooms."""
    path = ROOT / "notebooks" / f"{notebook}.ipynb"
    cells = notebook_code(path.read_text(encoding="utf-8"))
    parts = [ast.dump(ast.parse(cells))]
    for module in _reached(cells, set(without)):
        parts.append(_statements(module.read_text(encoding="utf-8")))
        if module.name == "__init__.py":  # what a room builds from: the C++ program's sources
            sources = sorted(path for path in module.parent.glob("*") if path.suffix in (".cpp", ".hpp", ".txt"))
            parts += [path.read_text(encoding="utf-8") for path in sources]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def notebook_code(text: str) -> str:
    """The code cells of a notebook, one after the other."""
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")


def imported(source: str) -> Iterator[str]:
    """The project's modules that a piece of code imports, also within functions, as dotted names."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


def module_file(name: str) -> Path:
    """The file of a dotted name, which may be that of something within the module."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    raise ModuleNotFoundError(name)


def commit() -> str | None:
    """The commit of this code: of the clone, or of the archive that it was unpacked from (`git archive` writes it there)."""
    if (ROOT / ".git").exists():
        return git("rev-parse", "HEAD") or None
    try:
        node = (ROOT / ".git_archival.txt").read_text(encoding="utf-8").split()[-1]
    except (OSError, IndexError):
        return None
    return None if "$" in node else node


def uncommitted() -> list[str] | None:
    """The files of code that are not as committed; notebooks count by their code cells. None where there is no clone to ask."""
    if not ((ROOT / ".git").exists() and git("rev-parse", "HEAD")):
        return None
    status = git("status", "--porcelain", "--untracked-files=all", "--", *CODE, strip=False)
    changed = [line[3:] for line in status.splitlines()]
    return [path for path in changed if not (path.endswith(".ipynb") and _same_cells(path))]


def git(*arguments: str, strip: bool = True) -> str:
    """What git prints, asked in the clone; nothing where it is missing or fails."""
    try:
        own = {name: value for name, value in os.environ.items() if name not in ANOTHERS}
        process = subprocess.run(["git", "-C", str(ROOT), *arguments], env=own, capture_output=True, encoding="utf-8",
                                 timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return process.stdout.strip() if strip else process.stdout


def _same_cells(path: str) -> bool:
    try:
        return notebook_code(git("show", f"HEAD:{path}")) == notebook_code((ROOT / path).read_text(encoding="utf-8"))
    except (OSError, ValueError, LookupError, TypeError):  # what lies there is no notebook
        return False


def _reached(source: str, without: set[str]) -> list[Path]:
    """The files of the modules that a piece of code imports, directly or not, in the order of their names."""
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
    """What a module does: its syntax tree, without docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:]
    return ast.dump(tree)
