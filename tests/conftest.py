"""What the tests share: CIFAR-10, an empty folder in place of the clone, and the form of a refusal."""

import os
import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import records_made
from records_made import Made

from cifar_bench import records
from cifar_bench.records.environment import compiler
from cifar_lib import ROOT, InputError
from cifar_lib import cifar10 as dataset

if "PYTEST_XDIST_WORKER" in os.environ:  # before PyTorch is imported
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads of several workers would take each other's cores

pytest_plugins = ["claim_records"]  # the fixture `write`

NEEDS_COMPILER = "needs a C++ compiler: apt install g++"
NOWHERE = "http://127.0.0.1:1/"  # nothing listens on this port

Refused = Callable[..., AbstractContextManager[None]]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Without a C++ compiler, a test that fails for that reason is skipped."""
    report = yield
    if report.failed and not compiler() and re.search("no C\\+\\+ compiler was found|InvalidCxxCompiler", report.longreprtext):
        report.outcome, report.longrepr = "skipped", (str(item.path), item.location[1], NEEDS_COMPILER)
    return report


@pytest.fixture(scope="session")
def needs_compiler() -> None:
    if not compiler():
        pytest.skip(NEEDS_COMPILER)


@pytest.fixture(scope="session")
def cifar10() -> Path:
    """The folder of the official files. Skips where there is none; never downloads."""
    given, data = os.environ.get("CIFAR10_DIR"), ROOT / "data"
    if given == dataset.SYNTHETIC or not (given or (data / dataset.ARCHIVE).is_file() or (data / dataset.FOLDER).is_dir()):
        pytest.skip("needs CIFAR-10: set CIFAR10_DIR")
    return dataset.find()


@pytest.fixture(autouse=True)
def forget_what_was_found() -> Iterator[None]:
    """`dataset.find` caches its answer, and tests change what it depends on."""
    dataset.find.cache_clear()
    yield
    dataset.find.cache_clear()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the clone, where no dataset is given and none can be downloaded."""
    root = tmp_path / "home"
    root.mkdir()
    monkeypatch.setattr(dataset, "ROOT", root)
    monkeypatch.setattr(records, "ROOT", root)
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setenv("CIFAR10_URL", NOWHERE)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return root


@pytest.fixture
def refused() -> Refused:
    """`with refused("a.bin"): ...` requires an InputError whose message is one sentence with these words."""

    @contextmanager
    def demand(*words: str) -> Iterator[None]:
        with pytest.raises(InputError) as caught:
            yield
        message = str(caught.value)
        assert [word for word in words if word not in message] == [], message
        assert message.endswith((".", "?")) and ". " not in message and "\n" not in message, message

    return demand


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A real record of each step, made once for all workers of pytest-xdist."""
    folder = tmp_path_factory.getbasetemp()
    return records_made.make(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)


@pytest.fixture
def numbered() -> list:
    """50 images, number n filled with n."""
    import torch  # here: see OMP_WAIT_POLICY above

    return [torch.full((1, 3, 32, 32), float(number)) for number in range(50)]


@pytest.fixture
def takes(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`takes(ns)` advances the clock, which stands still otherwise."""
    now = [1_000_000]

    def pass_by(ns: int) -> None:
        now[0] += ns

    monkeypatch.setattr(time, "perf_counter_ns", lambda: now[0])
    return pass_by


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of `made` first, so that one worker of pytest-xdist makes the records while the other runs other tests.

    The few long tests come last, in an order in which two workers end at about the same time.
    """
    items.sort(key=lambda item: "made" not in getattr(item, "fixturenames", ()))
    seconds = {item: mark.kwargs["seconds"] for item in items if (mark := item.get_closest_marker("ci"))}
    shortest_first = sorted(seconds, key=seconds.__getitem__)
    first_worker = shortest_first[-1:] + shortest_first[1:-1][:1]
    long = first_worker + [item for item in reversed(shortest_first) if item not in first_worker]
    items[:] = [item for item in items if item not in seconds] + long
