"""report.html in Chromium, as a radiologist uses it: by mouse, wheel, keyboard, on a phone and on paper; and
evaluation.html, which has no script, as a researcher looks at it."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blocks import affine_of, stored_in_all_ways
from evaluations import COHORT, FIGURES, evaluation_page, write_cohort
from matplotlib.image import imread
from reports import EVIL, evil_report, many_nodes, report_of, study_of
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from lnfast.geometry import Grid, Volume
from lnfast.measure import Rules
from lnfast.report import Notice, Report
from lnfast.report.page import render

QUIET = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-sync"
QUIET += " disable-component-update hide-scrollbars force-color-profile=srgb"
DESKTOP, PHONE = (1440, 900), (390, 844)
SHAPE_ZYX, SPACING_XYZ_MM = (12, 40, 60), (1.5, 2.0, 6.0)
NODES = {1: (slice(2, 4), slice(8, 11), slice(10, 14)), 2: (slice(5, 8), slice(20, 27), slice(30, 40))}
MARKER = (slice(None), slice(1, 6), slice(2, 9))  # at the patient's right, to the front
GREY, NODE_GREY, MARKER_GREY = 100, 800, 1000


class Browser:
    """Chromium, with the operations that the tests repeat."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def open(self, page: str, size: tuple[int, int] = DESKTOP) -> None:
        """Open a report, and wait until the slices are drawn or it is said that there are none."""
        self.load(page, size)
        self.until(lambda: self.shown("viewer") != self.shown("nopictures"))
        self.frame()

    def load(self, page: str, size: tuple[int, int]) -> None:
        self.size(*size)
        self.driver.get_log("performance")
        self.driver.get(page)

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < deadline, self.driver.get_log("browser")
            time.sleep(0.01)

    def frame(self) -> None:
        """Wait until the requested frame is drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        )

    def shown(self, name: str) -> bool:
        return self.driver.find_element(By.ID, name).is_displayed()

    def text(self, name: str) -> str:
        return self.driver.find_element(By.ID, name).text

    def press(self, *keys: str) -> None:
        ActionChains(self.driver, duration=0).send_keys(*keys).perform()
        self.frame()

    def click(self, selector: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).click()
        self.frame()

    def slice(self) -> int:
        match = re.match(r"Slice (\d+) of 12, ", self.text("where"))
        assert match
        return int(match[1])

    def lines(self, view: str) -> dict[str, float]:
        """Lengths in mm of the lines drawn in a view, by their kind."""
        script = f"""return [...document.querySelectorAll("#{view} line")].map(
            (line) => [line.getAttribute("class"),
                       ...["x1", "y1", "x2", "y2"].map((end) => +line.getAttribute(end))])"""
        return {kind: math.hypot(x2 - x1, y2 - y1) for kind, x1, y1, x2, y2 in self.run(script)}

    def grey(self, x_vox: float, y_vox: float) -> int:
        """What the whole slice's canvas shows at a voxel of the picture."""
        script = """const canvas = document.querySelector("#whole canvas");
            const at = [arguments[0] / arguments[2] * canvas.width, arguments[1] / arguments[3] * canvas.height];
            return canvas.getContext("2d").getImageData(...at, 1, 1).data[0]"""
        value: int = self.run(script, x_vox, y_vox, SHAPE_ZYX[2], SHAPE_ZYX[1])
        return value

    def requests(self) -> list[str]:
        """Return the addresses that were requested since the page was opened."""
        logged = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return [entry["params"]["request"]["url"] for entry in logged if entry["method"] == "Network.requestWillBeSent"]

    def printed_pages(self) -> int:
        pdf = self.driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
        return len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(pdf["data"])))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium and its driver; without them these tests skip, but not in CI."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        if os.environ.get("CI"):
            pytest.fail("no chromium or no chromedriver: CI must not skip these tests")
        pytest.skip("no chromium or no chromedriver here; on Debian: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in QUIET.split():
        options.add_argument(f"--{switch}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    driver.set_script_timeout(10)
    try:
        yield Browser(driver)
    finally:
        driver.quit()


def phantom() -> tuple[Volume, Volume]:
    """A flat image with two nodes and a marker, and its labels."""
    values, labels = np.full(SHAPE_ZYX, GREY, np.int16), np.zeros(SHAPE_ZYX, np.uint16)
    values[MARKER] = MARKER_GREY
    for label, part in NODES.items():
        values[part], labels[part] = NODE_GREY, label
    grid = Grid(SHAPE_ZYX, affine_of(SPACING_XYZ_MM))
    return Volume(values, grid), Volume(labels, grid)


def saved(folder: Path, page: bytes) -> str:
    path = folder / "report.html"
    path.write_bytes(page)
    return path.as_uri()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    image, labels = phantom()
    return saved(tmp_path_factory.mktemp("page"), render(report_of(labels), study_of(image), labels))


@pytest.fixture(scope="module")
def report() -> Report:
    return report_of(phantom()[1])


def test_it_opens_on_the_largest_node_and_says_nothing_is_wrong(browser: Browser, page: str) -> None:
    browser.open(page)
    body = browser.driver.find_element(By.TAG_NAME, "body").text
    assert "RESEARCH USE ONLY" in body and "1 of 2" in body and "N1" in body
    assert browser.slice() in (6, 7, 8) and browser.text("what") == "Node 2"
    assert browser.driver.find_element(By.CSS_SELECTOR, "tr.chosen").get_attribute("data-node") == "2"
    assert browser.shown("close") and not browser.shown("nopictures")
    assert browser.driver.get_log("browser") == []


def test_a_click_on_a_node_shows_its_slice_its_outline_and_its_axes(
    browser: Browser, page: str, report: Report
) -> None:
    browser.open(page)
    for node in report.nodes[::-1]:
        browser.click(f'tr[data-node="{node.id}"] button')
        assert browser.slice() - 1 in range(*NODES[node.id][0].indices(99))
        assert browser.text("what") == f"Node {node.id}"
        outline = browser.run(
            f"""return document.querySelector('#close path[data-node="{node.id}"]').getBBox().width"""
        )
        assert outline == NODES[node.id][2].stop - NODES[node.id][2].start, "in voxels, under a scale"
        browser.click("#box")
        lines = browser.lines("close")  # this box stands upright: two edges in the slice, one across the slices
        upright = [round(abs(axis[2])) for axis in node.box_axes_ras]
        edges = zip(("short", "middle", "long"), node.box_mm, upright, strict=True)
        assert lines == pytest.approx({name: edge_mm for name, edge_mm, across in edges if not across}, abs=0.01)
        assert browser.run("return document.querySelector('#close polygon.cut').points.length") == 4
        browser.click("#axial")
        assert browser.lines("close") == pytest.approx(
            {"short": node.axial_short_mm, "long": node.axial_long_mm}, abs=0.01
        )
        drawn = browser.run("return [...document.querySelectorAll('#close text')].map((text) => text.textContent)")
        assert {f"{node.axial_short_mm:.1f}", f"{node.axial_long_mm:.1f}"} <= set(drawn)
        assert f"short {node.axial_short_mm:.1f} mm" in browser.text("legend")


def test_the_scale_bar_and_the_pixels_are_as_long_as_they_say(browser: Browser, page: str) -> None:
    browser.open(page)
    for view in ("whole", "close"):
        bar, frame, port = browser.run(
            f"""const view = document.getElementById("{view}"), width = (e) => e.getBoundingClientRect().width;
            return [width(view.querySelector(".bar")), width(view.querySelector(".frame")),
                    view.querySelector("svg").viewBox.baseVal.width]"""
        )
        label = browser.driver.find_element(By.CSS_SELECTOR, f"#{view} .bar").text
        assert bar / frame * port == pytest.approx(float(label.removesuffix(" mm")), rel=0.02)
    box = browser.run("return document.querySelector('#whole .frame').getBoundingClientRect().toJSON()")
    wide_mm, high_mm = SHAPE_ZYX[2] * SPACING_XYZ_MM[0], SHAPE_ZYX[1] * SPACING_XYZ_MM[1]
    assert box["width"] / box["height"] == pytest.approx(wide_mm / high_mm, rel=0.01)


@pytest.mark.parametrize("stored", [0, 13, 30, 47])
def test_the_patient_s_right_front_is_drawn_left_on_top(browser: Browser, tmp_path: Path, stored: int) -> None:
    image, labels = (list(stored_in_all_ways(volume))[stored] for volume in phantom())
    browser.open(saved(tmp_path, render(report_of(labels), study_of(image), labels)))
    front, left = 3.5, 5.5
    assert browser.grey(left, front) == 255
    assert browser.grey(60 - left, front) == browser.grey(left, 40 - front) == browser.grey(60 - left, 40 - front) == 0
    letters = {
        side: browser.driver.find_element(By.CSS_SELECTOR, f"#whole .{side}").text
        for side in ("left", "right", "top", "bottom")
    }
    assert letters == {"left": "R", "right": "L", "top": "A", "bottom": "P"}


def test_the_wheel_and_the_keys_go_through_all_slices(browser: Browser, page: str) -> None:
    browser.open(page)
    frame = browser.driver.find_element(By.CSS_SELECTOR, "#whole .frame")
    browser.press(Keys.HOME)
    slices = [browser.slice()]
    for _ in range(12):
        origin = ScrollOrigin.from_element(frame)
        ActionChains(browser.driver, duration=0).scroll_from_origin(origin, 0, -100).perform()
        browser.frame()
        slices.append(browser.slice())
    assert slices == [*range(1, 13), 12]
    for keys, slice_number in (
        ((Keys.HOME,), 1),
        ((Keys.ARROW_UP,), 2),
        ((Keys.ARROW_RIGHT,), 3),
        ((Keys.PAGE_UP,), 8),
        ((Keys.ARROW_DOWN,), 7),
        ((Keys.PAGE_DOWN,), 2),
        ((Keys.END,), 12),
    ):
        browser.press(*keys)
        assert browser.slice() == slice_number
    assert browser.text("what") == "Node 2: not in this slice"
    browser.press("n")
    assert browser.text("what") == "Node 1" and browser.slice() in (3, 4)
    browser.press("p")
    assert browser.text("what") == "Node 2"
    count = partial(browser.run, "return document.querySelectorAll('svg > *').length")
    assert count() > 0
    browser.press("o")
    assert count() == 0
    browser.press("o", "m")
    assert set(browser.lines("close")) == {"long", "short"}


def test_keys_are_left_alone_where_they_belong_to_something_else(browser: Browser, page: str) -> None:
    browser.open(page)
    before = browser.slice()
    browser.run("const line = document.querySelector('dd'); line.tabIndex = 0; line.focus()")
    browser.press(Keys.ARROW_UP)
    assert browser.slice() == before


def test_dragging_changes_the_greys_and_a_double_click_brings_them_back(browser: Browser, page: str) -> None:
    browser.open(page)
    node = (35.0, 23.5)
    start, grey = browser.text("greys"), browser.grey(*node)
    frame = browser.driver.find_element(By.CSS_SELECTOR, "#whole .frame")
    ActionChains(browser.driver, duration=0).click_and_hold(frame).move_by_offset(120, -5).release().perform()
    browser.frame()
    wider = browser.text("greys")
    assert float(wider.split()[1]) > float(start.split()[1])
    assert browser.grey(*node) < grey
    ActionChains(browser.driver, duration=0).double_click(frame).perform()
    browser.frame()
    assert (browser.text("greys"), browser.grey(*node)) == (start, grey)
    low, high = (
        float(part) for part in json.loads(browser.run("return scene.voxels && JSON.stringify(scene.voxels.window)"))
    )
    assert grey == pytest.approx(min(255.0, 255 * (NODE_GREY - low) / (high - low)), abs=1)


def test_a_click_in_the_picture_takes_the_node_there(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.press(*[Keys.HOME, Keys.ARROW_UP, Keys.ARROW_UP])
    box = browser.run("return document.querySelector('#whole .frame').getBoundingClientRect().toJSON()")
    x, y = 12 / 60 * box["width"] - box["width"] / 2, 9.5 / 40 * box["height"] - box["height"] / 2
    frame = browser.driver.find_element(By.CSS_SELECTOR, "#whole .frame")
    ActionChains(browser.driver, duration=0).move_to_element_with_offset(frame, round(x), round(y)).click().perform()
    browser.frame()
    assert browser.text("what") == "Node 1"


def test_a_screen_reader_is_told_what_is_seen(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.press(Keys.HOME)
    browser.until(lambda: "Slice 1 of 12" in browser.run("return document.getElementById('announcement').textContent"))
    tree = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = [(node["role"]["value"], node["name"]["value"]) for node in tree if "name" in node and not node["ignored"]]
    for role in ("button", "slider", "image", "table", "columnheader", "rowheader"):
        names = [name for kind, name in named if kind == role]
        assert names and all(names), role
    assert ("button", "2suspicious") in named or ("button", "2 suspicious") in named
    values = [node["value"]["value"] for node in tree if node["role"]["value"] == "slider"]
    assert values and "no node" in browser.driver.find_element(By.ID, "slice").get_attribute("aria-valuetext")
    browser.run("document.querySelector('tr[data-node=\"1\"] button').focus()")
    browser.press(Keys.ENTER)
    assert browser.text("what") == "Node 1", "a row is chosen from the keyboard"


class Counting(BaseHTTPRequestHandler):
    """A handler that serves one page and records the requested paths."""

    def __init__(self, content: bytes, requests: list[str], *arguments: Any) -> None:
        self.content, self.requests = content, requests
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self.requests.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


def test_the_page_requests_nothing_and_cannot(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.press(Keys.HOME, "n", "o", "m", "r")
    assert browser.requests() == [page]
    requests: list[str] = []
    content = (Path(page.removeprefix("file://"))).read_bytes()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Counting, content, requests)) as server:
        threading.Thread(target=server.serve_forever).start()
        address = f"http://127.0.0.1:{server.server_port}"
        try:
            browser.open(address + "/report.html")
            assert browser.shown("viewer")
            refused = browser.driver.execute_async_script(
                """const done = arguments[1], image = new Image();
                image.src = arguments[0] + "/image";
                document.body.append(image);
                const script = document.createElement("script");
                script.src = arguments[0] + "/script";
                document.body.append(script);
                fetch(arguments[0] + "/fetch").then(() => done(false), () => done(true))""",
                address,
            )
            assert refused
        finally:
            browser.driver.get("about:blank")
            server.shutdown()
    assert requests == ["/report.html"]
    browser.driver.get_log("browser")  # the refusals that the test caused


def test_a_study_named_like_a_script_is_a_name(browser: Browser, tmp_path: Path) -> None:
    image, labels = phantom()
    browser.open(saved(tmp_path, render(evil_report(labels), study_of(image), labels)))
    assert EVIL.partition("\u202e")[0] in browser.driver.find_element(By.CSS_SELECTOR, ".name").text
    assert browser.run("return document.scripts.length") == 4 and browser.shown("viewer")
    assert browser.run("return document.images.length") == 0
    assert browser.driver.get_log("browser") == []


def test_without_nodes_the_slices_are_still_there(browser: Browser, tmp_path: Path) -> None:
    image, labels = phantom()
    empty = Volume(np.zeros_like(labels.array), labels.grid)
    browser.open(saved(tmp_path, render(report_of(empty), study_of(image), empty)))
    assert browser.shown("whole") and not browser.shown("close") and not browser.shown("next")
    browser.press(Keys.END, "n", "p", "m", "o", "r")
    assert browser.slice() == 12 and browser.driver.get_log("browser") == []
    assert "No lymph node was found." in browser.driver.find_element(By.TAG_NAME, "body").text


@pytest.mark.parametrize("how", ["an old browser", "a damaged file"])
def test_where_there_are_no_pictures_the_numbers_stand_and_a_line_says_why(
    browser: Browser, page: str, how: str, tmp_path: Path
) -> None:
    added = None
    if how == "an old browser":
        script = {"source": "delete window.DecompressionStream"}
        added = browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    else:
        content = Path(page.removeprefix("file://")).read_text(encoding="utf-8")
        packed = re.search(r'id="voxels">([^<]+)', content)
        assert packed
        middle = packed.start(1) + (packed.end(1) - packed.start(1)) // 2
        page = saved(tmp_path, (content[: middle - 8] + "AAAAAAAA" + content[middle:]).encode())
    try:
        browser.open(page)
        assert browser.shown("nopictures") and not browser.shown("viewer")
        assert len(browser.driver.find_elements(By.CSS_SELECTOR, "tbody tr")) == 2
        browser.driver.get_log("browser")  # it says what it could not do
    finally:
        if added:
            browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


@pytest.mark.parametrize("nodes", [0, 2, 80])
def test_on_a_phone_nothing_is_cut_off_and_on_paper_it_is_one_page(
    browser: Browser, tmp_path: Path, nodes: int
) -> None:
    labels = many_nodes(nodes)
    notices = [Notice(code, f"{code}: " + "said at some length " * 5) for code in ("rules-disagree", "slice-limited")]
    for warned in ((), (*notices, Notice("field-of-view", "the field of view " * 9), Notice("note", "took one"))):
        report = replace(report_of(labels, Rules()), warnings=warned)
        browser.open(saved(tmp_path, render(report, study_of(labels), labels)), PHONE)
        assert browser.run("return document.documentElement.scrollWidth") <= PHONE[0]
        assert browser.printed_pages() == 1
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    printed = browser.driver.find_element(By.TAG_NAME, "body").text
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert "RESEARCH USE ONLY" in printed
    assert ("smaller nodes" in printed) == (nodes == 80)


def test_the_page_of_an_evaluation_shows_misses_and_false_nodes_and_asks_for_nothing(
    browser: Browser, tmp_path: Path
) -> None:
    content, _ = evaluation_page(*write_cohort(tmp_path, dict(list(COHORT.items())[:3])))
    page = saved(tmp_path, content.encode())
    browser.load(page, PHONE)
    assert browser.run("return document.documentElement.scrollWidth") <= PHONE[0]
    browser.load(page, DESKTOP)
    assert [address for address in browser.requests() if not address.startswith("data:")] == [page]
    widths = browser.run("return [...document.images].map((image) => image.complete && image.naturalWidth)")
    assert len(widths) == len(FIGURES) and all(widths)
    browser.click("nav a[href='#worst']")
    assert abs(browser.run("return document.getElementById('worst').getBoundingClientRect().top")) < DESKTOP[1] / 4
    missed, false = browser.driver.find_elements(By.CSS_SELECTOR, ".case")[:2]
    for case, side in ((missed, "truth"), (false, "prediction")):
        close = case.find_elements(By.TAG_NAME, "svg")[-1]
        browser.run("arguments[0].scrollIntoView({block: 'center'})", close)
        pixels = imread(io.BytesIO(close.screenshot_as_png))[..., :3]
        match = re.search(rf"--{side}: #(\w{{6}})", content)
        assert match
        colour = np.array(list(bytes.fromhex(match[1]))) / 255
        assert (np.abs(pixels - colour).max(axis=2) < 0.02).sum() > 50
    assert browser.driver.get_log("browser") == []
