"""Checks a notebook's parameters, because papermill runs on with the default when a name is misspelt."""

import ast
import builtins
import re
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

import torch

from cifar_lib import ROOT, InputError

Rule = tuple[float, float] | list | set | re.Pattern | None
PAPERMILL_MARK = "# Parameters"  # the first line of the cell that papermill adds after the parameters cell


def check(namespace: Mapping[str, object], **rules: Rule) -> dict[str, object]:
    """Return the notebook's parameters, or raise InputError at the first one that is not allowed.

    `namespace` is the notebook's `globals()` right after the parameters cell: its `In` shows the names and types that were
    declared (`epochs: int = 3`), and what papermill set. `rules` gives each name its range `(min, max)`, the list of allowed
    values (a list parameter must name at least one), the set of values that a list parameter may name, the pattern of a name
    or of each name in a list, or None where any value of the type will do. No list may repeat a value, unless its rule is None.
    """
    _refuse_other_clone()
    pythons = {name: value for name, value in vars(builtins).items() if getattr(value, "__module__", None) == "builtins"}
    if replaced := [name for name, value in pythons.items() if namespace.get(name, value) is not value]:
        raise InputError(f"{replaced[0]} is not Python's own, perhaps by a start-up file: set IPYTHONDIR to an empty folder.")
    cells = [declared(cell) for cell in namespace.get("In", [])]
    types = next((names for names in reversed(cells) if names.keys() & rules.keys()), {})  # a cell may have been run again
    if set(types) != set(rules):
        raise InputError(f"parameters cell and check disagree about {', '.join(sorted(set(types) ^ set(rules)))}.")
    for name in _injected(namespace.get("In", [])):
        if name not in types:
            close = get_close_matches(name, types, n=1)
            hint = f"did you mean {close[0]}?" if close else f"allowed are {', '.join(types)}."
            raise InputError(f"unknown parameter {name}: {hint}")
    return {name: _checked(name, namespace[name], types[name], rule) for name, rule in rules.items()}


def declared(cell: str) -> dict[str, type]:
    """The names that a cell declares with a built-in type, from its source: Python 3.14 keeps no annotations of a notebook."""
    with suppress(SyntaxError):
        declarations = [line for line in ast.parse(cell).body if isinstance(line, ast.AnnAssign)]
        return {ast.unparse(line.target): vars(builtins)[kind] for line in declarations
                if (kind := ast.unparse(line.annotation)) in vars(builtins)}
    return {}


def device_or_error(name: str) -> str:
    """`name` as a device that PyTorch can use here; "auto" is the GPU where there is one. Raises InputError."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device is 'cuda', but PyTorch finds no NVIDIA GPU here: use 'cpu' or 'auto'.")
    return name


def _refuse_other_clone() -> None:
    """Raises InputError where a clone's notebook would run another clone's code, as with a .venv that was copied along."""
    here = Path.cwd()
    clone = next((folder for folder in (here, *here.parents) if (folder / "cifar_lib" / "__init__.py").is_file()), ROOT)
    if not clone.samefile(ROOT):
        raise InputError(f"cifar_lib comes from {ROOT}, not from {clone}: run `make .venv/ready` there and use its .venv.")


def _injected(cells: list[str]) -> list[str]:
    """The names that papermill assigned, from the sources of the cells run so far."""
    trees = [ast.parse(cell) for cell in cells if cell.startswith(PAPERMILL_MARK)]
    return [target.id for tree in trees for line in tree.body if isinstance(line, ast.Assign) for target in line.targets]


def _checked(name: str, value: object, wanted: type, rule: Rule) -> object:
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        hint = {str: " (papermill passes text that looks like a number with -r)",
                list: f" (papermill passes a list with -y '{name}: [...]')"}.get(wanted, "")
        raise InputError(f"{name} must be of type {wanted.__name__}, not {type(value).__name__} ({value!r}){hint}.")
    if isinstance(rule, tuple) and not rule[0] <= value <= rule[1]:
        raise InputError(f"{name} must be between {rule[0]:,} and {rule[1]:,}, not {value:,}.")
    items = value if wanted is list else [value]
    if isinstance(rule, list | set):
        allowed = ", ".join(map(repr, sorted(rule) if isinstance(rule, set) else rule))
        if wrong := [item for item in items if item not in list(rule)]:
            raise InputError(f"{name} must be one of {allowed}, not {wrong[0]!r}.")
        if value == [] and isinstance(rule, list):
            raise InputError(f"{name} must name at least one of {allowed}.")
    wrong = [item for item in items if isinstance(rule, re.Pattern) and not (isinstance(item, str) and rule.fullmatch(item))]
    if wrong:
        raise InputError(f"{name} is {wrong[0]!r}: use letters, digits, '.', '_' and '-' only.")
    if wanted is list and rule is not None and len(set(value)) < len(value):
        raise InputError(f"{name} names {next(item for item in value if value.count(item) > 1)!r} more than once.")
    return value
