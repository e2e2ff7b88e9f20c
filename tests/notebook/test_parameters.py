"""A notebook's parameters are checked: right ones pass, each wrong one is refused in one sentence."""

from pathlib import Path

import pytest
from conftest import Refused
from papermill.translators import PythonTranslator

from cifar_bench import RUN_NAME
from cifar_bench.notebook.parameters import check
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


def test_defaults_pass() -> None:
    assert checked() == DEFAULTS


def test_given_parameters_pass() -> None:
    given = {"run": "night", "recipe": "fast", "epochs": 150, "rate": 0.5, "fast": True, "engines": ["native"],
             "without": ["muon"], "networks": ["narrow"]}
    assert checked(**given) == given


def test_a_notebook_of_another_clone_than_the_librarys_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    (tmp_path / "cifar_lib").mkdir()
    (tmp_path / "cifar_lib" / "__init__.py").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    with refused(str(ROOT), str(tmp_path), "make .venv/ready"):
        checked()
    (tmp_path / "cifar_lib" / "__init__.py").unlink()  # no clone at all: notebooks run from any folder
    assert checked() == DEFAULTS


@pytest.mark.parametrize("epochs", [1, 1000])
def test_both_ends_of_a_range_are_allowed(epochs: int) -> None:
    assert checked(epochs=epochs)["epochs"] == epochs


def test_whole_number_passes_for_a_float_as_a_float() -> None:
    assert type(checked(rate=1)["rate"]) is float


def test_names_that_are_no_parameters_are_ignored_outside_papermills_cell() -> None:
    namespace: dict[str, object] = {"In": [CELL, "epoch = 5"]}
    exec(CELL + "epoch = 5", namespace)
    assert check(namespace, **RULES) == DEFAULTS


def test_misspelt_name_is_refused_with_the_right_one(refused: Refused) -> None:
    with refused("unknown parameter epoch:", "did you mean epochs?"):
        checked(epoch=5)


def test_unlike_name_is_refused_with_all_that_are_allowed(refused: Refused) -> None:
    with refused("unknown parameter zzz", *RULES):
        checked(zzz=5)


def test_misspelt_name_is_refused_beside_right_ones(refused: Refused) -> None:
    with refused("unknown parameter zzz"):
        checked(epochs=5, zzz=5)


def test_text_in_the_place_of_a_list_is_refused_with_the_way_to_pass_one(refused: Refused) -> None:
    with refused("engines must be of type list", "-y 'engines: [...]'"):
        checked(engines="eager")


@pytest.mark.parametrize(
    ("name", "value", "wanted", "is_type"),
    [
        ("run", 7, "str", "int"),
        ("epochs", True, "int", "bool"),
        ("epochs", 1.0, "int", "float"),
        ("epochs", "5", "int", "str"),
        ("rate", "0.1", "float", "str"),
        ("rate", True, "float", "bool"),
        ("fast", 1, "bool", "int"),
        ("engines", "eager", "list", "str"),
        ("epochs", None, "int", "NoneType"),
    ],
)
def test_wrong_type_is_refused(name: str, value: object, wanted: str, is_type: str, refused: Refused) -> None:
    with refused(f"{name} must be of type {wanted}, not {is_type}"):
        checked(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("epochs", 1001), ("epochs", -1), ("rate", -0.01), ("rate", 1.5), ("rate", float("nan"))],
)
def test_value_out_of_range_is_refused_with_the_range(name: str, value: float, refused: Refused) -> None:
    least, most = RULES[name]
    with refused(f"{name} must be between {least:,} and {most:,}"):
        checked(**{name: value})


def test_value_not_in_the_list_is_refused_with_the_list(refused: Refused) -> None:
    with refused("recipe must be one of 'original', 'fast', not 'orignal'"):
        checked(recipe="orignal")


def test_wrong_item_of_a_list_is_refused_with_what_is_allowed(refused: Refused) -> None:
    with refused("engines must be one of 'eager', 'onnx', 'native', not 'onyx'"):
        checked(engines=["eager", "onyx"])


def test_a_list_that_may_be_empty_takes_any_of_its_set_and_nothing_else(refused: Refused) -> None:
    assert checked(without=["dirac"])["without"] == ["dirac"]
    with refused("without", "'dirac', 'muon'", "'onum'"):
        checked(without=["onum"])


def test_a_value_named_twice_is_refused(refused: Refused) -> None:
    with refused("without names 'muon' more than once"):
        checked(without=["muon", "dirac", "muon"])


@pytest.mark.parametrize("name", ["../lab", "lab/", "", 1, None, ["lab"]])
def test_a_list_of_names_takes_names_only(refused: Refused, name: object) -> None:
    assert checked(networks=["narrow", "2"])["networks"] == ["narrow", "2"]
    with refused(f"networks is {name!r}: use letters, digits, '.', '_' and '-' only."):
        checked(networks=["narrow", name])
    with refused("networks names 'narrow' more than once"):
        checked(networks=["narrow", "narrow"])


def test_empty_list_is_refused(refused: Refused) -> None:
    with refused("engines", "at least one", "native"):
        checked(engines=[])


def test_check_must_name_every_parameter(refused: Refused) -> None:
    namespace: dict[str, object] = {}
    exec(CELL, namespace)
    rules = {name: rule for name, rule in RULES.items() if name != "fast"}
    with refused("fast"):
        check(namespace, **rules)


def test_refusal_is_one_line_in_a_notebook() -> None:
    assert InputError("x must be 1.")._render_traceback_() == ["InputError: x must be 1."]
