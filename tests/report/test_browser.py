"""The report as a browser shows it: whole, without a network, at every width, in light and dark, accessible.

Needs Debian's chromium and `npm ci --prefix tests` (axe-core).
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browsing import chromium
from clones import REFERENCE, clone, environment, once, shared_folder
from playwright.sync_api import Browser, Page

from cifar_bench.records import PROFILE_VARIABLE
from cifar_lib import ROOT

AXE = ROOT / "tests" / "node_modules" / "axe-core" / "axe.min.js"
KEYS = ("series", "variant", "precision", "engine", "network")  # texts of a record that are looked up
HOSTILE = "<script>window.hostile = 1</script><img src=x onerror='window.hostile = 2'>"
MARGINS = {"top": "15mm", "bottom": "15mm", "left": "15mm", "right": "15mm"}
# Elements wider than the window, except those inside an element that scrolls by itself.
STICKING_OUT = """() => [...document.body.querySelectorAll('*')].filter(one => {
    for (let up = one.parentElement; up; up = up.parentElement)
        if (getComputedStyle(up).overflowX === 'auto') return false;
    return one.getBoundingClientRect().right > innerWidth + 1;
}).map(one => one.outerHTML.slice(0, 100))"""


def make_report(folder: Path) -> Path:
    """The report of the reference run in a copy of the clone, from its records, as the Snakefile makes it."""
    run = folder / "results" / REFERENCE
    notebook = run / "notebooks" / "6_report.ipynb"
    for command in (
        ["cifar_bench.notebook.execute", "notebooks/6_report.ipynb", str(notebook), json.dumps({"run": REFERENCE})],
        ["jupyter", "nbconvert", "--log-level=ERROR", "--to=html", "--template=report",
         "--TemplateExporter.extra_template_basedirs=cifar_bench/report/templates", str(notebook), f"--output-dir={run}",
         "--output=report"],
    ):
        process = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True,
                                 env=environment(folder, **{PROFILE_VARIABLE: "thorough"}))
        assert process.returncode == 0, process.stderr
    return run / "report.html"


def clone_without_pictures(folder: Path) -> Path:
    """A copy of the clone in which the reference run has only its records."""
    clone(folder)
    for path in [folder / "results" / REFERENCE / "verdicts.json", *(folder / "figures" / REFERENCE).iterdir()]:
        path.unlink()
    return folder


def poisoned(value: object, key: str = "") -> object:
    """`value` with HTML after every text in it, except the texts of `KEYS`."""
    if isinstance(value, dict):
        return {name: poisoned(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [poisoned(one, key) for one in value]
    return value + HOSTILE if isinstance(value, str) and key not in KEYS else value


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report, made once for all processes of the test run; no test changes it."""
    folder = once(shared_folder(tmp_path_factory) / "report", lambda folder: make_report(clone_without_pictures(folder)))
    return folder / "results" / REFERENCE / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser, report: Path) -> Iterator[Callable[..., Page]]:
    """The report in a new window, with the options of `new_context`."""
    contexts = []

    def opening(width: int = 1440, **options: object) -> Page:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.goto(report.as_uri())
        return page

    yield opening
    for context in contexts:
        context.close()


def test_the_report_is_one_file_that_loads_nothing_and_logs_nothing(browser: Browser, report: Path) -> None:
    page, asked, said = browser.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(report.as_uri(), wait_until="networkidle")
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert said == []
    assert page.evaluate("[...document.scripts].map(one => one.hasAttribute('src'))") == [False]  # the page's own, no other
    assert page.evaluate("document.documentElement.lang") == "en"
    page.close()


def test_a_click_sorts_a_table_by_a_column_and_another_reverses_the_order(opened: Callable[..., Page]) -> None:
    page = opened()
    table = page.get_by_role("region", name="latency of every engine", exact=True)
    column = [head.strip() for head in table.locator("th").all_inner_texts()].index("p99 (µs)")

    def click(head: str) -> list[str]:
        table.get_by_role("button", name=head, exact=True).click()
        return table.locator(f"td:nth-child({column + 1})").all_inner_texts()

    up, down = click("p99 (µs)"), click("p99 (µs)")
    ran = [float(text.replace(",", "")) for text in up if text != "–"]
    assert up != down and len(ran) > 6 and ran == sorted(ran)
    assert down == [*reversed(up[: len(ran)]), *up[len(ran):]]  # what did not run stays last
    assert table.locator("th[aria-sort]").all_inner_texts() == ["p99 (µs)"]
    click("engine")
    names = table.locator("td:nth-child(1)").all_inner_texts()
    assert names == sorted(names)


def test_without_javascript_nothing_is_missing(opened: Callable[..., Page]) -> None:
    assert opened(java_script_enabled=False).inner_text("main") == opened().inner_text("main")


def test_the_first_screen_has_every_result_and_the_page_is_short(opened: Callable[..., Page]) -> None:
    for width, longest in ((1280, 14_500), (390, 18_000)):
        page = opened(width)
        bottoms = page.eval_on_selector_all(".card > p, .badge, .summary > li",
                                            "all => all.map(one => one.getBoundingClientRect().bottom)")
        assert len(bottoms) == 3 + 1 + 9 and max(bottoms) < 900
        assert page.evaluate("document.documentElement.scrollHeight") < longest


def test_the_report_is_small_and_names_no_path_of_this_machine(report: Path) -> None:
    assert report.stat().st_size < 2_000_000
    text = report.read_text()
    assert str(report.parents[2]) not in text and str(ROOT) not in text  # as in a warning


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_nothing_is_wider_than_the_window(opened: Callable[..., Page], width: int) -> None:
    page = opened(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(STICKING_OUT) == []
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate(STICKING_OUT) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_violation(opened: Callable[..., Page], scheme: str) -> None:
    if not AXE.exists():
        pytest.skip("needs axe-core: npm ci --prefix tests")
    page = opened(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run()")["violations"]
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")] == []


def test_each_of_eight_figures_has_a_label_with_a_number_and_its_numbers_as_a_file(opened: Callable[..., Page]) -> None:
    page = opened()
    labels = page.eval_on_selector_all("figure", "all => all.map(one => one.querySelector('[role=img]')?.ariaLabel ?? '')")
    assert len(labels) == 8
    assert [label for label in labels if not any(sign.isdigit() for sign in label)] == []
    assert page.locator("figure a[download]").count() == 8


def test_every_link_leads_somewhere(opened: Callable[..., Page], report: Path) -> None:
    page = opened()
    links = page.eval_on_selector_all("a[href]", "all => all.map(one => one.getAttribute('href'))")
    ids = page.eval_on_selector_all("[id]", "all => all.map(one => one.id)")
    assert len(ids) == len(set(ids))
    inside = [link for link in links if link.startswith("#")]
    files = [link for link in links if not urlsplit(link).scheme and not link.startswith("#")]
    assert [link for link in inside if unquote(link[1:]) not in ids] == []
    assert [link for link in files if not (report.parent / unquote(urlsplit(link).path)).is_file()] == []
    assert len(inside) > 10 and len(files) > 10
    headings = page.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(one => Number(one.tagName[1]))")
    assert headings[0] == 1 and all(after - before <= 1 for before, after in pairwise(headings))


def test_print_cuts_no_figure_and_no_table(opened: Callable[..., Page]) -> None:
    page = opened(width=680)  # A4 without the margins, in CSS pixels
    page.emulate_media(media="print")
    tall = page.eval_on_selector_all(
        "figure", "all => all.filter(one => one.getBoundingClientRect().height > 1000 || one.scrollWidth > one.clientWidth + 1"
                  " || one.querySelector('div').scrollWidth > one.querySelector('div').clientWidth + 1"
                  " || getComputedStyle(one).breakInside !== 'avoid').map(one => one.id)")
    assert tall == []
    tables = "all => all.filter(one => one.clientWidth).map(one => [one.scrollWidth, one.clientWidth])"  # not the folded tables
    widths = page.eval_on_selector_all(".table", tables)
    assert len(widths) > 4
    assert [width for width, available in widths if width > available] == []
    assert page.pdf(format="A4", margin=MARGINS).count(b"/Type /Page\n") > 5


@pytest.mark.ci(seconds=32)
def test_the_same_records_make_the_same_report_in_another_folder(report: Path, tmp_path: Path) -> None:
    first, second = report.parents[2], clone_without_pictures(tmp_path / "another")
    make_report(second)
    names = [f"results/{REFERENCE}/report.html", f"results/{REFERENCE}/verdicts.json",
             *(f"figures/{REFERENCE}/{path.name}" for path in sorted((first / "figures" / REFERENCE).iterdir()))]
    assert len(names) == 2 + 8
    assert [name for name in names if (first / name).read_bytes() != (second / name).read_bytes()] == []


def test_a_hostile_record_is_text(browser: Browser, tmp_path: Path) -> None:
    folder = clone(tmp_path / "hostile")
    for path in (folder / "results" / REFERENCE).rglob("record.json"):
        record = json.loads(path.read_text())
        record["environment"] |= {"hardware": HOSTILE, "system": HOSTILE, "python": HOSTILE, "commit": HOSTILE}
        record["parameters"] |= {"run": HOSTILE, HOSTILE: HOSTILE}
        record["measurements"] = poisoned(record["measurements"])
        path.write_text(json.dumps(record))
    page = browser.new_page()
    page.goto(make_report(folder).as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("window.hostile") is None
    assert page.locator("img[src=x]").count() == 0
    assert page.inner_text("body").count(HOSTILE) > 20
    page.close()
