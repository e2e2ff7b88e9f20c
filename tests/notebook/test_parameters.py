"""A notebook's parameters are checked: valid ones pass, each invalid one is refused in one sentence."""

from pathlib import Path

import pytest
import torch
from conftest import Refused
from papermill.translators import PythonTranslator

from cifar_bench import RUN_NAME
from cifar_bench.notebook.parameters import check, device_or_error
from cifar_lib import ROOT, InputError

CELL = """\
run: str = "lab"  # folder
recipe: str = "original"  # training recipe
epochs: int = 3  # passes
rate: float = 0.1  # learning rate
fast: bool = False  # whether to hurry
engines: list = ["eager", "onnx"]  # what is timed
without: list = []  # what is left out
networks: list = []  # runs
"""
RULES = {
    "run": None, "recipe": ["original", "fast"], "epochs": (1, 1000), "rate": (0, 1), "fast": None,
    "engines": ["eager", "onnx", "native"], "without": {"muon", "dirac"},
    "networks": RUN_NAME,
}  # fmt: skip
DEFAULTS = {"run": "lab", "recipe": "original", "epochs": 3, "rate": 0.1, "fast": False, "engines": ["eager", "onnx"],
            "without": [], "networks": []}


def checked(**given: object) -> dict[str, object]:
    """What `check` makes of a notebook that papermill runs with these parameters."""
    cells = ["", CELL]
    if given:
        cells.append(PythonTranslator.codify(given))
    namespace: dict[str, object] = {"In": cells}
    for cell in cells:
        exec(cell, namespace)
    return check(namespace, **RULES)


def test_defaults_and_given_parameters_pass() -> None:
    assert checked() == DEFAULTS
    given = {"run": "night", "recipe": "fast", "epochs": 1000, "rate": 1, "fast": True, "engines": ["native"],
             "without": ["muon"], "networks": ["narrow"]}
    assert checked(**given) == given and type(checked(**given)["rate"]) is float


def test_a_notebook_of_another_clone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    (tmp_path / "cifar_lib").mkdir()
    (tmp_path / "cifar_lib" / "__init__.py").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    with refused(str(ROOT), str(tmp_path), "make .venv/ready"):
        checked()
    (tmp_path / "cifar_lib" / "__init__.py").unlink()  # not a clone: notebooks run from any folder
    assert checked() == DEFAULTS


def test_other_names_are_ignored_outside_papermills_cell() -> None:
    own = "epoch = 5; steps: int = 7; seen: dict[str, int] = {}"
    namespace: dict[str, object] = {"In": ["epochs: str = 'of an earlier run'", CELL, own, "not Python"]}
    exec(CELL + own, namespace)
    assert check(namespace, **RULES) == DEFAULTS


def test_a_start_up_file_that_replaces_what_is_pythons_own_is_refused(refused: Refused) -> None:
    namespace: dict[str, object] = {"In": [CELL], "exit": None, "get_ipython": None}  # which are IPython's
    exec(CELL, namespace)
    assert check(namespace, **RULES) == DEFAULTS
    with refused("len is not Python's own", "IPYTHONDIR"):
        check(namespace | {"len": lambda _: 7}, **RULES)


def test_unknown_name_is_refused_with_the_closest_or_all_that_are_allowed(refused: Refused) -> None:
    with refused("unknown parameter epoch:", "did you mean epochs?"):
        checked(epoch=5)
    with refused("unknown parameter zzz", *RULES):
        checked(epochs=5, zzz=5)


def test_text_in_place_of_a_list_is_refused_with_the_way_to_pass_a_list(refused: Refused) -> None:
    with refused("engines must be of type list", "-y 'engines: [...]'"):
        checked(engines="eager")


@pytest.mark.parametrize(
    ("name", "value", "wanted", "is_type"),
    [
        ("run", 7, "str", "int"),
        ("epochs", True, "int", "bool"),
        ("epochs", 1.0, "int", "float"),
        ("rate", "0.1", "float", "str"),
        ("fast", 1, "bool", "int"),
    ],
)
def test_wrong_type_is_refused(name: str, value: object, wanted: str, is_type: str, refused: Refused) -> None:
    with refused(f"{name} must be of type {wanted}, not {is_type}"):
        checked(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("epochs", 1001), ("rate", -0.01), ("rate", float("nan"))],
)
def test_value_out_of_range_is_refused_with_the_range(name: str, value: float, refused: Refused) -> None:
    low, high = RULES[name]
    with refused(f"{name} must be between {low:,} and {high:,}"):
        checked(**{name: value})


def test_value_not_in_the_list_is_refused_with_the_list(refused: Refused) -> None:
    with refused("recipe must be one of 'original', 'fast', not 'orignal'"):
        checked(recipe="orignal")
    with refused("engines must be one of 'eager', 'onnx', 'native', not 'onyx'"):
        checked(engines=["eager", "onyx"])
    with refused("engines", "at least one", "native"):
        checked(engines=[])
    with refused("without", "'dirac', 'muon'", "'onum'"):
        checked(without=["onum"])
    with refused("without names 'muon' more than once"):
        checked(without=["muon", "dirac", "muon"])


@pytest.mark.parametrize("name", ["../lab", "", 1, ["lab"]])
def test_a_list_of_runs_takes_their_names_only(refused: Refused, name: object) -> None:
    assert checked(networks=["narrow", "2"])["networks"] == ["narrow", "2"]
    with refused(f"networks is {name!r}: use letters, digits, '.', '_' and '-' only."):
        checked(networks=["narrow", name])


def test_check_must_name_every_parameter(refused: Refused) -> None:
    namespace: dict[str, object] = {"In": [CELL]}
    exec(CELL, namespace)
    rules = {name: rule for name, rule in RULES.items() if name != "fast"}
    with refused("fast"):
        check(namespace, **rules)


def test_refusal_is_one_line_in_a_notebook() -> None:
    assert InputError("x must be 1.")._render_traceback_() == ["InputError: x must be 1."]


def test_a_gpu_is_used_where_there_is_one_and_refused_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (device_or_error("auto"), device_or_error("cuda")) == ("cuda", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (device_or_error("auto"), device_or_error("cpu")) == ("cpu", "cpu")
    with refused("'cuda'", "'cpu'"):
        device_or_error("cuda")
