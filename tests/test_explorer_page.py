"""The explorer in a real browser: what a reader sees, points at, presses and saves."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from solids import icosphere

from locality_prior import HexGrid, Line, Sphere
from locality_prior.explorer import Network, Scene, Sheet, Wires, pack
from locality_prior.explorer.element import fragment, page, source
from locality_prior.plots import Places
from locality_prior.plots.surfaces import Surface

HIDDEN, INPUT = 6, 4  # units along a side
DARKEST, BRIGHTEST = (68, 1, 84), (253, 231, 37)  # of the map for numbers of one sign
RED, BLUE = (103, 0, 31), (5, 48, 97)  # ends of the map for numbers of two signs
CLASSES = ("cats", "dogs", "maps")


def cells(rows: int, cols: int, units: int | None = None) -> Places:
    at = np.arange(units or rows * cols)
    return Places(np.stack([at % cols, at // cols], axis=1).astype(float), "cells", (rows, cols))


def network(name: str, seed: int, add: float) -> Network:
    """After the last epoch, class c's mean of hidden unit i is i + 40 c + add; the numbers go from 0 to 254."""
    n, m = HIDDEN**2, INPUT**2
    means = np.arange(n) + 40.0 * np.arange(3)[:, None] + add
    means[0, 0], means[2, -1] = 0, 254
    d = np.linspace(-2.0, 2.0, 3 * n).reshape(3, n)
    d[1, 5] = np.nan
    factors = np.stack([np.ones(n), -np.ones(n)]) / np.sqrt(2)
    factors[:, n // 2 :] *= -1  # one half of the sheet is against the other
    units = np.arange(n)
    wires = Wires(
        "input",
        "hidden",
        (m, n),
        origin=np.stack([units % m, (units + 1) % m], axis=1),
        weight=np.stack([np.full(n, 2.0), np.full(n, 1.0)], axis=1),
        distance=np.stack([np.full(n, 0.5), np.full(n, 3.0)], axis=1),
        rank=np.stack([np.full(n, 0.01), np.full(n, 0.5)], axis=1),
    )
    growth = np.stack([means * 0, means / 2, means])
    hidden = Sheet(cells(HIDDEN, HIDDEN), means, d, np.array([0, 1, 4]), growth, factors)
    return Network(name, seed, {"input": Sheet(cells(INPUT, INPUT), np.eye(3, m)), "hidden": hidden}, {"fc": wires})


def study() -> Scene:
    conditions = {"control": 0, "weak": 20, "strong": 40}
    networks = tuple(network(name, seed, add + seed) for name, add in conditions.items() for seed in (1, 2))
    return Scene("A study", CLASSES, networks, note="Six networks.")


def one_sheet(places: Places, means: Any, classes: tuple[str, ...] = (), **more: Any) -> Scene:
    return Scene("", classes, (Network("only", None, {"sheet": Sheet(places, np.asarray(means, float), **more)}, {}),))


class View:
    """The explorer of the page that a browser shows."""

    def __init__(self, driver: Any, folder: Path) -> None:
        self.driver, self.folder = driver, folder

    def show(self, scene: Scene) -> View:
        return self.open(page(*pack(scene)))

    def open(self, text: str) -> View:
        path = self.folder / "page.html"
        path.write_text(text, encoding="utf-8")
        self.driver.get(path.as_uri())
        return self.settled()

    def js(self, code: str, *arguments: Any) -> Any:
        """The value of ``code``; in it ``root`` is what the first explorer holds."""
        start = "const root = document.querySelector('[data-explorer]')?.shadowRoot;"
        return self.driver.execute_script(start + code, *arguments)

    def settled(self) -> View:
        """After what was asked for is drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0], root = () => document.querySelector('[data-explorer]')?.shadowRoot;"
            "const twice = () => requestAnimationFrame(() => requestAnimationFrame(done));"
            "const drawn = () => root()?.querySelector('canvas') ? twice() : setTimeout(drawn, 5);"
            "drawn()"
        )
        return self

    def element(self, css: str, k: int = 0) -> Any:
        return self.js("return root.querySelectorAll(arguments[0])[arguments[1]]", css, k)

    def shown(self, css: str) -> list[str]:
        """Texts of what is visible."""
        visible = "[...root.querySelectorAll(arguments[0])].filter(e => e.checkVisibility())"
        return self.js(f"return {visible}.map(e => e.innerText)", css)

    def titles(self) -> list[str]:
        return self.shown(".panel > p:not(.status)")

    def controls(self) -> dict[str, list[str]]:
        """Name of each visible select → its options."""
        return self.js(
            "return Object.fromEntries([...root.querySelectorAll('select')].filter(s => s.checkVisibility())"
            ".map(s => [s.ariaLabel, [...s.options].map(o => o.text)]))"
        )

    def chosen(self, name: str) -> str:
        return self.js(
            'return root.querySelector(`select[aria-label="${arguments[0]}"]`).selectedOptions[0].text', name
        )

    def choose(self, name: str, option: str) -> View:
        assert option in self.controls()[name]
        self.js(
            'const s = root.querySelector(`select[aria-label="${arguments[0]}"]`);'
            "s.value = [...s.options].find(o => o.text === arguments[1]).value; s.dispatchEvent(new Event('change'))",
            name,
            option,
        )
        return self.settled()

    def slide(self, name: str, value: float) -> View:
        self.js(
            'const s = root.querySelector(`input[aria-label="${arguments[0]}"]`);'
            "s.value = arguments[1]; s.dispatchEvent(new Event('input'))",
            name,
            value,
        )
        return self.settled()

    def press(self, *keys: str, shift: bool = False) -> View:
        from selenium.webdriver import ActionChains, Keys

        act = ActionChains(self.driver, duration=0)
        if shift:
            act.key_down(Keys.SHIFT).send_keys(*keys).key_up(Keys.SHIFT).perform()
        else:
            act.send_keys(*keys).perform()
        return self.settled()

    def point(self, k: int, across: float, down: float, click: bool = False) -> View:
        """Move the mouse to a place of map k, in shares of its width and height."""
        from selenium.webdriver import ActionChains

        canvas = self.element("canvas", k)
        size = canvas.size
        act = ActionChains(self.driver, duration=0).move_to_element_with_offset(
            canvas, round((across - 0.5) * size["width"]), round((down - 0.5) * size["height"])
        )
        (act.click() if click else act).perform()
        return self.settled()

    def unit(self, k: int, row: int, col: int, side: int = HIDDEN, click: bool = False) -> View:
        return self.point(k, (col + 0.5) / side, (row + 0.5) / side, click)

    def leave(self) -> View:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver, duration=0).move_to_element(self.element(".note")).perform()
        return self.settled()

    def pixels(self, k: int, across: float, down: float, around: int = 0) -> list[tuple[int, ...]]:
        """Of a place of map k, in shares of its width and height, and ``around`` it."""
        data = self.js(
            "const [k, across, down, around] = arguments, c = root.querySelectorAll('canvas')[k];"
            "const copy = new OffscreenCanvas(c.width, c.height).getContext('2d', {willReadFrequently: true});"
            "copy.drawImage(c, 0, 0);"
            "return [...copy.getImageData(Math.floor(across * c.width) - around, Math.floor(down * c.height) - around,"
            " 2 * around + 1, 2 * around + 1).data]",
            k,
            across,
            down,
            around,
        )
        return [tuple(data[i : i + 4]) for i in range(0, len(data), 4)]

    def pixel(self, k: int, across: float, down: float) -> tuple[int, ...]:
        return self.pixels(k, across, down)[0]

    def colour(self, k: int, row: int, col: int, side: int = HIDDEN) -> tuple[int, ...]:
        """Of the middle of a cell."""
        return self.pixel(k, (col + 0.5) / side, (row + 0.5) / side)[:3]

    def marked(self, k: int, row: int, col: int, side: int = HIDDEN) -> bool:
        """Whether a cell of a map in viridis has an outline: something at its left edge is grey."""
        return any(max(p[:3]) - min(p[:3]) < 12 for p in self.pixels(k, col / side, (row + 0.5) / side, 2))

    def picture(self, k: int) -> str:
        return self.js("return root.querySelectorAll('canvas')[arguments[0]].toDataURL()", k)

    def saved(self, button: str) -> Path:
        for old in self.folder.glob("down/*"):
            old.unlink()
        self.js("[...root.querySelectorAll('button')].find(b => b.textContent.includes(arguments[0])).click()", button)
        for _ in range(200):
            found = [p for p in self.folder.glob("down/*") if p.suffix in (".csv", ".png") and p.stat().st_size]
            if found:
                return found[0]
            time.sleep(0.02)
        raise AssertionError("nothing was saved")

    def device(self, width: int = 1100, height: int = 1000, mobile: bool = False, **media: str) -> View:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        return self


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("chromium and chromedriver are not installed")
    folder = tmp_path_factory.mktemp("browser")
    (folder / "down").mkdir()
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", f"user-data-dir={folder / 'profile'}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    try:
        driver.set_script_timeout(20)
        driver.set_page_load_timeout(30)
        driver.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder / "down")}
        )
        yield driver, folder
    finally:
        driver.quit()


@pytest.fixture
def view(driver: tuple[Any, Path]) -> Iterator[View]:
    """A browser whose console stays empty."""
    view = View(*driver).device()
    view.driver.get_log("browser")
    yield view
    assert view.driver.get_log("browser") == []


# -- the HTML, without a browser


def test_a_fragment_holds_its_scene_and_no_markup_of_it() -> None:
    hostile = "</script><script>alert(1)</script><!-- \u2028"
    scene = Scene(hostile, (hostile,), (Network(hostile, 1, {hostile: Sheet(cells(1, 2), np.ones((1, 2)))}, {}),))
    description, data = pack(scene)
    text = fragment(description, data)
    assert text.count("</script>") == 3
    assert text.count("<script") == 3
    packed, deflated = re.findall(r"<script type=\"application[^>]*>(.*?)</script>", text, re.DOTALL)
    assert json.loads(packed) == description
    assert zlib.decompress(base64.b64decode(deflated)) == data
    assert fragment(description, data, module=False).count("</script>") == 2
    assert "&lt;/script&gt;" in text  # in what a reader without JavaScript reads
    assert f"<title>{hostile[:3]}" not in page(description, data, hostile)


def test_a_page_loads_nothing_and_the_module_is_small() -> None:
    text = page(*pack(study()))
    assert re.findall(r"(?:src|href)=.*?>", text.replace(source(), "")) == ['href="data:,">']
    assert not re.search(r"https?:|@import|url\(|import[ (]|fetch\(|XMLHttp|innerHTML", source())
    assert len(source().encode()) <= 76 * 1024  # 10 of them draw surfaces and turn them
    assert "</" not in source()


# -- what is seen


def test_the_first_view_compares_control_and_the_last_condition(view: View) -> None:
    view.show(study())
    assert view.shown("h3") == ["A study"]
    a, b = view.titles()
    assert a == "Acontrol, seed 1: hidden, class mean of “cats”, after epoch 4"
    assert b == "Bstrong, seed 1: hidden, class mean of “cats”, after epoch 4"
    assert view.chosen("compare") == "two networks"
    assert view.shown(".note")[-1] == "Six networks."
    assert view.shown(".legend") == ["class mean; one scale for both maps, all classes, all epochs\n0\n127\n254"]


def test_colours_are_on_one_scale_over_both_maps_all_classes_and_epochs(view: View) -> None:
    view.show(study())
    assert view.colour(0, 0, 0) == view.colour(1, 0, 0) == DARKEST
    # 41 in both: unit 40 − 41 is not there, so unit 35 of control (36) against unit 0 + 41 of strong
    grey = view.colour(1, 0, 1)  # 1 + 41 = 42
    view.choose("class", "dogs")
    assert view.colour(0, 0, 1) == grey  # 1 + 40 + 1
    view.choose("class", "maps")
    assert view.colour(0, 5, 5) == view.colour(1, 5, 5) == BRIGHTEST
    view.slide("epoch", 0)
    assert view.colour(0, 5, 5) == DARKEST
    assert view.shown(".legend") == ["class mean; one scale for both maps, all classes, all epochs\n0\n127\n254"]


def test_values_of_two_signs_and_without_a_number(view: View) -> None:
    view.show(study()).choose("colour by", "selectivity d′").choose("class", "dogs")
    assert view.shown(".legend") == ["selectivity d′; one scale for both maps, all classes\n−2.00\n0\n2.00\nno value"]
    r, g, b = view.colour(0, 0, 5)
    assert r == g
    assert abs(b - r) < 6
    assert r > 200
    assert view.choose("class", "cats").colour(0, 0, 0) == BLUE
    assert view.choose("class", "maps").colour(1, 5, 5) == RED
    view.unit(0, 0, 5)
    view.choose("class", "dogs")
    assert view.shown(".status")[0] == "row 0, column 5: no value"


def test_preferred_classes_and_correlations(view: View) -> None:
    view.show(study()).choose("colour by", "preferred class")
    assert view.colour(0, 3, 3) == (189, 31, 1)  # the third of ten colours: d′ grows with the class
    assert view.shown(".legend") == ["preferred class: the one with the largest d′\ncats\ndogs\nmaps\nno preference"]
    view.unit(0, 0, 5)  # d′ of one of its classes is undefined
    assert view.shown(".status") == ["row 0, column 5: no preference"] * 2
    view.unit(1, 3, 3)
    assert view.shown(".status") == ["row 3, column 3: maps"] * 2
    assert "8 of 8 neighbours alike" in view.shown(".unit")[0]
    view.choose("colour by", "correlation with a unit")
    view.unit(0, 0, 0, click=True)
    assert view.colour(0, 1, 1) == RED
    assert view.colour(1, 4, 4) == BLUE
    view.unit(0, 5, 5, click=True)
    assert view.colour(0, 1, 1) == BLUE
    assert view.colour(1, 4, 4) == RED
    assert "correlation with the unit at row 5, column 5" in view.shown(".panel > p")[0]


def lightness(colours: Any) -> Any:
    """CIE L* of sRGB colours (n, 3)."""
    c = np.asarray(colours) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(y > 216 / 24389, 116 * np.cbrt(y) - 16, y * 24389 / 27)


@pytest.mark.parametrize("signed", [False, True])
def test_lightness_is_even(view: View, signed: bool) -> None:
    ramp = np.arange(255.0) - 127 * signed
    view.show(one_sheet(cells(15, 17), ramp[None]))
    seen = lightness([view.pixel(0, (i % 17 + 0.5) / 17, (i // 17 + 0.5) / 15)[:3] for i in range(0, 255, 6)])
    steps = np.diff(seen)
    half = len(steps) // 2
    if signed:
        assert (steps[:half] > 0).all()
        assert (steps[half + 1 :] < 0).all()
        assert abs(seen[0] - seen[-1]) < 5
    else:
        assert (steps > 0.5).all()
        assert steps.max() < 3 * steps.min()


# -- the unit in focus


def test_the_unit_under_the_pointer(view: View) -> None:
    view.show(study())
    before = view.picture(0), view.picture(1)
    view.unit(0, 2, 3)
    assert view.shown(".status") == ["row 2, column 3: 16.0", "row 2, column 3: 56.0"]
    assert view.marked(0, 2, 3)
    assert view.marked(1, 2, 3)
    assert not view.marked(1, 3, 4)
    told = view.shown(".unit")[0]
    assert " ".join(told.split()) == (
        "unit 15; mean of 8 neighbours 16.0 Class means cats 16.0 dogs 56.0 maps 96.0 "
        "Strongest wires in: fc from |V| length row 3, column 3 2.00 0.500 row 0, column 0 1.00 3.00"
    )
    view.leave()
    assert view.shown(".status") == ["", ""]
    assert (view.picture(0), view.picture(1)) == before


def test_a_click_holds_a_unit(view: View) -> None:
    view.show(study()).unit(1, 4, 1, click=True).leave()
    assert view.shown(".status") == ["row 4, column 1: 26.0", "row 4, column 1: 66.0 (pinned)"]
    assert view.marked(0, 4, 1)
    view.choose("class", "dogs")
    assert view.shown(".status") == ["row 4, column 1: 66.0", "row 4, column 1: 106 (pinned)"]
    view.unit(1, 4, 1, click=True).leave()
    assert view.shown(".status") == ["", ""]


def test_the_keyboard_alone_suffices(view: View) -> None:
    from selenium.webdriver.common.keys import Keys

    view.show(study())
    visited = []
    while None not in visited:
        view.press(Keys.TAB)
        visited.append(view.js("const e = root.activeElement; return e && (e.ariaLabel || e.textContent)"))
    for label in ("compare", "seed", "sheet", "colour by", "class", "Play the epochs", "epoch", "network of map A"):
        assert label in visited
    assert view.element("canvas", 1).get_attribute("aria-label") in visited
    assert visited[-3:] == ["Save picture (PNG)", "Save numbers (CSV)", None]
    view.js("root.querySelectorAll('canvas')[1].focus()")
    view.press(Keys.ARROW_DOWN)
    assert view.shown(".status")[1] == "row 3, column 3: 62.0"  # the middle
    view.press(Keys.ARROW_UP, Keys.ARROW_RIGHT)
    assert view.shown(".status") == ["row 2, column 4: 17.0", "row 2, column 4: 57.0"]
    view.press(Keys.ENTER)
    assert view.shown(".status")[1] == "row 2, column 4: 57.0 (pinned)"
    view.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert view.shown(".status")[1] == "row 2, column 5: 58.0"  # the edge
    assert view.marked(0, 2, 4)
    view.press(Keys.ESCAPE, Keys.ESCAPE)
    assert view.shown(".status") == ["", ""]
    whole = view.picture(1)
    view.press("+")
    assert view.picture(1) != whole
    assert view.picture(0) != whole
    near = view.picture(1)
    view.press(Keys.ARROW_RIGHT, shift=True)
    assert view.picture(1) != near
    view.press("0")
    assert view.picture(1) == whole


def test_the_wheel_zooms_a_selected_map_about_the_pointer(view: View) -> None:
    view.show(study()).unit(0, 1, 1)
    whole = view.picture(0)
    wheel = (
        "const c = root.querySelector('canvas'), b = c.getBoundingClientRect();"
        "return c.dispatchEvent(new WheelEvent('wheel', {deltaY: arguments[0], clientX: b.left + b.width / 4,"
        " clientY: b.top + b.height / 4, cancelable: true}))"
    )
    assert view.js(wheel, -100) is True  # the page may scroll
    assert view.settled().picture(0) == whole
    view.js("root.querySelector('canvas').focus()")
    assert view.js(wheel, -100) is False
    view.settled().point(0, 0.26, 0.26)
    assert view.picture(0) != whole
    assert view.shown(".status")[0] == "row 1, column 1: 8.00"
    assert view.js(wheel, 400) is False
    assert view.js(wheel, 100) is True
    view.settled().unit(0, 1, 1)
    assert view.picture(0) == whole


def test_fingers_hold_units_and_pinch(view: View) -> None:
    view.device(390, 800, mobile=True)
    view.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        view.show(study()).js("root.querySelector('canvas').scrollIntoView({block: 'center'})")
        box = view.js("const b = root.querySelector('canvas').getBoundingClientRect(); return [b.left, b.top, b.width]")

        def touch(kind: str, *shares: tuple[float, float]) -> None:
            points = [{"x": box[0] + x * box[2], "y": box[1] + y * box[2], "id": k} for k, (x, y) in enumerate(shares)]
            view.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})

        touch("Start", (0.75, 0.25))
        touch("End")
        assert view.settled().shown(".status")[0] == "row 1, column 4: 11.0 (pinned)"
        whole = view.picture(0)
        touch("Start", (0.45, 0.5), (0.55, 0.5))
        for k in range(1, 6):
            touch("Move", (0.45 - 0.05 * k, 0.5), (0.55 + 0.05 * k, 0.5))
        touch("End")
        assert view.settled().picture(0) != whole
        near = view.picture(0)
        touch("Start", (0.5, 0.5))
        for k in range(1, 6):
            touch("Move", (0.5 - 0.05 * k, 0.5))
        touch("End")
        assert view.settled().picture(0) != near
        assert view.shown(".status")[0] == "row 1, column 4: 11.0 (pinned)"
    finally:
        view.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


# -- two panels


def test_seeds_epochs_and_classes_side_by_side(view: View) -> None:
    view.show(study()).choose("compare", "two seeds")
    assert [text.split(":")[0] for text in view.titles()] == [
        "Acontrol, seed 1",
        "Bcontrol, seed 2",
    ]
    view.choose("seed of map A", "2")  # they change places
    assert [text.split(":")[0] for text in view.titles()] == [
        "Acontrol, seed 2",
        "Bcontrol, seed 1",
    ]
    view.choose("compare", "two epochs")
    assert [text.split(", ")[-1] for text in view.titles()] == [
        "before training",
        "after epoch 4",
    ]
    view.slide("epoch of map A", 1)
    assert view.titles()[0].endswith("after epoch 1")
    view.choose("compare", "two classes")
    assert view.titles()[1].endswith("“dogs”, after epoch 4")  # only "two epochs" looks back
    view.choose("compare", "any two maps").choose("sheet of map B", "input")
    assert view.titles()[1] == "Bcontrol, seed 2: input, class mean of “dogs”"
    view.choose("compare", "one map only")
    assert len(view.shown(".panel")) == 1


def test_networks_of_one_name_and_seed_are_told_apart(view: View) -> None:
    networks = [Network("control", None, {"s": Sheet(cells(1, 1), np.full((1, 1), float(k)))}, {}) for k in (1, 2)]
    view.show(Scene("", (), tuple(networks)))
    assert view.controls()["network of map B"] == ["control", "control (2)"]
    assert view.titles() == ["Acontrol: s, mean response", "Bcontrol (2): s, mean response"]


def test_a_network_keeps_its_seed_and_sheet(view: View) -> None:
    view.show(study()).choose("seed", "2").choose("sheet", "input").choose("network of map B", "weak")
    assert view.titles()[1] == "Bweak, seed 2: input, class mean of “cats”"


def test_wires_from_input_to_output(view: View) -> None:
    view.show(study()).choose("compare", "input → output of a layer")
    assert view.chosen("link to the other map") == "units wired to it"
    view.unit(1, 0, 2)
    assert view.shown(".status") == ["wired to 2 units", "row 0, column 2: 3.00"]
    assert view.marked(0, 0, 2, INPUT)
    assert view.marked(0, 0, 3, INPUT)
    assert not view.marked(0, 1, 2, INPUT)
    view.unit(0, 0, 2, INPUT)  # units 1, 2, 17, 18, 33 and 34 of hidden listen to it
    assert view.shown(".status")[1] == "wired to 6 units"
    assert view.marked(1, 0, 1)
    assert view.marked(1, 2, 5)
    assert not view.marked(1, 0, 4)
    view.choose("colour by of map A", "wires into a unit").unit(1, 0, 2, click=True).leave()
    view.choose("class", "dogs")  # of map B alone
    assert view.titles()[1].endswith("“dogs”, after epoch 4")
    assert "wires into the unit at row 0, column 2 of hidden" in view.shown(".panel > p")[0]
    assert view.colour(0, 0, 2, INPUT) == BRIGHTEST
    assert len(set(view.colour(0, 2, 2, INPUT))) <= 2  # no wire: neutral
    assert "not among the 2 strongest wires into it" in view.shown(".legend")[0]
    view.choose("wires by", "length")
    assert view.colour(0, 0, 3, INPUT) == BRIGHTEST
    assert "length of a wire; one scale for all units\n0\n1.50\n3.00" in view.shown(".legend")[0]
    view.choose("wires by", "kept or cut").slide("if only the layer's strongest wires are kept", -1)
    assert view.colour(0, 0, 2, INPUT) == (63, 144, 218)
    assert view.colour(0, 0, 3, INPUT) == (255, 169, 14)
    assert view.js("return root.querySelectorAll('tr.cut').length") == 1
    view.choose("colour by of map B", "wires that would be kept")
    view.unit(1, 4, 4)
    assert view.shown(".status")[1] == "row 4, column 4: 1"
    view.choose("colour by of map B", "wires out of a unit").unit(0, 0, 2, INPUT, click=True)
    view.unit(0, 0, 2, INPUT, click=True)
    assert view.colour(1, 0, 2) == (63, 144, 218)
    assert view.colour(1, 0, 1) == (255, 169, 14)


def test_a_weight_of_0_is_no_wire(view: View) -> None:
    scene = study()
    first = scene.networks[0]
    fc = first.layers["fc"]
    few = Wires("input", "hidden", fc.units, fc.origin, fc.weight * [1, 0], fc.distance, fc.rank * 0 + 1)
    view.show(Scene("", CLASSES, (Network("control", 1, first.sheets, {"fc": few}),)))
    view.choose("compare", "input → output of a layer").choose("colour by of map B", "wires that would be kept").unit(
        1, 0, 2
    )
    assert view.shown(".status") == ["wired to 1 unit", "row 0, column 2: 1"]


# -- time


def test_time_goes_for_both_maps(view: View) -> None:
    from selenium.webdriver.common.keys import Keys

    view.show(study()).unit(0, 2, 3, click=True)
    view.js("root.querySelector('input[aria-label=epoch]').focus()")
    view.press(Keys.HOME)
    assert [t.split(", ")[-1] for t in view.titles()] == ["before training"] * 2
    assert view.shown(".status")[0] == "row 2, column 3: 0 (pinned)"
    view.press(Keys.ARROW_RIGHT)
    assert view.shown(".status")[0] == "row 2, column 3: 8 (pinned)"
    assert view.shown(".time .slider") == ["after epoch 1 (of 4)"]


def test_time_plays_three_epochs_in_a_second_and_stops_at_the_end(view: View) -> None:
    view.show(study())
    play = "return root.querySelector('.time button').ariaLabel"
    seen = view.driver.execute_async_script(
        "const done = arguments[0], root = document.querySelector('[data-explorer]').shadowRoot, seen = [];"
        "const at = performance.now(), name = root.querySelector('.panel p');"
        "new MutationObserver(() => seen.push([name.innerText.split(', ').at(-1), performance.now() - at]))"
        ".observe(name, {subtree: true, childList: true, characterData: true});"
        "root.querySelector('.time button').click(); setTimeout(() => done(seen), 1300)"
    )
    assert [text for text, _ in seen] == ["before training", "after epoch 1", "after epoch 4"]
    assert 500 < seen[-1][1] - seen[0][1] < 1000
    assert view.js(play) == "Play the epochs"


def test_networks_may_have_kept_other_epochs(view: View) -> None:
    def grown(name: str, *epochs: int) -> Network:
        means = np.ones((1, 4)) * np.arange(1.0, len(epochs) + 1)[:, None, None]
        return Network(name, None, {"s": Sheet(cells(2, 2), means[-1], None, np.array(epochs), means)}, {})

    view.show(Scene("", (), (grown("a", 0, 5), grown("b", 1, 2, 9)))).slide("epoch", 2)
    assert view.titles() == ["Aa: s, mean response, before training", "Bb: s, mean response, after epoch 2"]
    assert view.shown(".time .slider") == ["after epoch 2 (of 9)"]
    view.choose("compare", "two epochs").choose("network", "b")  # of which nothing is known before training
    assert view.shown(".time .slider") == ["after epoch 1 (of 9)", "after epoch 9 (of 9)"]


def test_reduced_motion_steps(view: View) -> None:
    view.device(prefers_reduced_motion="reduce").show(study()).slide("epoch", 0)
    assert view.js("const b = root.querySelector('.time button'); b.click(); return b.ariaLabel") == "Next epoch"
    time.sleep(0.5)
    assert view.settled().shown(".time .slider") == ["after epoch 1 (of 4)"]


# -- saving


def test_the_numbers_are_saved(view: View) -> None:
    path = view.show(study()).saved("CSV")
    assert path.name == "a-study.csv"
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    assert rows[0] == [
        "unit",
        "column",
        "row",
        "A: control, seed 1: hidden, class mean of “cats”, after epoch 4",
        "B: strong, seed 1: hidden, class mean of “cats”, after epoch 4",
    ]
    assert rows[16][:3] == ["15", "3", "2"]
    assert [float(value) for value in rows[16][3:]] == pytest.approx([16, 56], abs=254 / 65_000)
    assert len(rows) == 1 + HIDDEN**2
    view.choose("compare", "input → output of a layer").choose("colour by of map B", "preferred class")
    rows = list(csv.reader(io.StringIO(view.saved("CSV").read_text(encoding="utf-8"), newline="")))
    assert rows[0][1:5] == ["A: column", "A: row", "B: column", "B: row"]
    assert rows[1] == ["0", "0", "0", "0", "0", "1", "maps"]
    assert rows[36] == ["35", "", "", "5", "5", "", "maps"]


def test_texts_are_no_formulas_in_a_spreadsheet(view: View) -> None:
    places = cells(1, 2)
    d = np.array([[1.0, 0.0], [0.0, 1.0]])
    scene = one_sheet(places, d, ('=HYPERLINK("x")', "+1, 2"), selectivity=d)
    view.show(scene).choose("compare", "one map only").choose("colour by", "preferred class")
    text = view.saved("CSV").read_bytes().decode()
    assert text.splitlines()[1:] == ['0,0,0,"\'=HYPERLINK(""x"")"', '1,1,0,"\'+1, 2"']
    assert text.endswith("\r\n")


def test_the_picture_is_saved(view: View) -> None:
    image = pytest.importorskip("PIL.Image")
    view.show(study()).choose("class", "maps").unit(0, 2, 3, click=True)
    with image.open(view.saved("PNG")) as saved:
        colours = {colour[:3] for _, colour in saved.convert("RGB").getcolors(1 << 20)}
        assert saved.width == 2 * (2 * 16 + 2 * 460 + 28)
        assert saved.height > 1000
    assert {DARKEST, BRIGHTEST, (255, 255, 255)} <= colours
    view.device(prefers_color_scheme="dark").choose("colour by", "preferred class").choose("compare", "two seeds")
    with image.open(view.settled().saved("PNG")) as saved:
        assert saved.convert("RGB").getpixel((0, 0)) == (28, 28, 30)


# -- whoever looks, and whatever is shown

LONG = "x" * 10_000
HOSTILE = (
    "<script>window.bad = 1</script>",
    "\"'><img src=x onerror='window.bad = 1'>",
    LONG,
    "two\nlines\u202e\x00",
    "=1+1",
    "",
)


def test_hostile_names_are_texts(view: View) -> None:
    networks = tuple(
        Network(name, k, {name: Sheet(cells(2, 3), np.eye(6), np.eye(6))}, {name: wires_between(name)})
        for k, name in enumerate(HOSTILE)
    )
    for width in (1100, 390):
        view.device(width).show(Scene(HOSTILE[0], HOSTILE, networks, note=LONG)).unit(0, 0, 1, 3, click=True)
        assert view.js("return window.bad") is None
        assert view.js("return root.querySelectorAll('script, img').length") == 0
        assert view.shown("h3") == [HOSTILE[0]]
        assert view.js("return document.scrollingElement.scrollWidth") <= width
        options = view.controls()["class"]
        assert options[:2] == list(HOSTILE[:2])
        assert len(options[2]) == 48
        assert "…" in options[2]
        assert options[3:] == ["two lines", "=1+1", "–"]
        assert len(view.js("return root.querySelector('select[aria-label=class]').options[2].title")) == 300
    view.choose("compare", "any two maps")
    for label in ("network of map A", "network of map B"):
        for option in view.controls()[label]:
            view.choose(label, option)
    view.choose("colour by of map B", "preferred class")
    assert view.shown(".key")[0] == plainly(HOSTILE[0])


def plainly(text: str, most: int = 24) -> str:
    return text if len(text) <= most else text[: most - most // 4 - 1] + "…" + text[-(most // 4) :]


def wires_between(name: str) -> Wires:
    n = np.arange(6)[:, None]
    return Wires(name, name, (6, 6), n[::-1].copy(), n + 1.0, np.full((6, 1), np.nan), np.full((6, 1), 1.0))


def test_dark_and_light(view: View) -> None:
    colour = "return getComputedStyle(root.querySelector('.explorer')).color"
    assert view.show(study()).js(colour) == "rgb(29, 29, 31)"
    view.device(prefers_color_scheme="dark").settled()
    assert view.js(colour) == "rgb(236, 236, 238)"
    view.choose("colour by", "selectivity d′").choose("class", "dogs")
    assert max(view.colour(0, 0, 5)) < 100  # the hatch is dark as well


def test_a_page_that_is_light_for_all_stays_light(view: View) -> None:
    """The explorer follows the page that it stands in."""
    text = page(*pack(study())).replace('content="light dark"', 'content="light"')
    view.device(prefers_color_scheme="dark").open(text)
    assert view.js("return getComputedStyle(root.querySelector('.explorer')).color") == "rgb(29, 29, 31)"


def test_a_phone_shows_one_map_below_the_other(view: View) -> None:
    view.device(390, 800, mobile=True).show(study())
    assert view.js("return document.scrollingElement.scrollWidth") == 390
    a, b = (view.element(".panel", k).rect for k in (0, 1))
    assert a["x"] == b["x"]
    assert b["y"] >= a["y"] + a["height"]
    view.device(1100).settled()
    a, b = (view.element(".panel", k).rect for k in (0, 1))
    assert a["y"] == b["y"]
    assert b["x"] > a["x"]


def points(n: int, seed: int = 0) -> Places:
    return Places(np.random.default_rng(seed).random((n, 2)), "points")


def test_units_of_every_kind_are_found_where_they_are_drawn(view: View) -> None:
    for places in (Places.of(HexGrid(5, 7)), Places.of(Sphere(60)), points(40), Places.of(Line(9)), points(8000)):
        n = len(places)
        view.show(one_sheet(places, np.linspace(0, 254, n)[None]))
        x, y = places.xy.T
        drawn = np.stack([x, y if places.kind in ("hexagons", "cells") else -y], axis=1)
        corner = int(np.abs(drawn - drawn.max(axis=0)).sum(axis=1).argmin())  # the unit at the lower right
        shares = locate(places, drawn[corner])
        view.point(0, *shares)
        told = view.shown(".unit")[0]
        assert told.startswith(f"unit {corner};"), places.kind
        assert view.pixel(0, *shares)[3] == 255


def locate(places: Places, at: Any) -> tuple[float, float]:
    """Where a place lies in the picture, in shares of its width and height."""
    x, y = places.xy.T
    if places.kind == "cells":
        return float((at[0] + 0.5) / places.shape[-1]), 0.5
    y = y if places.kind == "hexagons" else -y
    across, down = np.ptp(x), np.ptp(y)
    least = max(across, down) / len(x)
    spacing = np.sqrt(max(across, least) * max(down, least) / len(x))
    edge = 1.15 * {"hexagons": 3**-0.5, "sphere": 0.5, "points": 0.42 * spacing}[places.kind]
    box = [x.min() - edge, y.min() - edge, x.max() + edge, y.max() + edge]
    if places.kind == "sphere":
        a = 2 * 2**0.5 * places.radius
        box = [-a - edge, -a / 2 - edge, a + edge, a / 2 + edge]
    shares = [(at[0] - box[0]) / (box[2] - box[0]), (at[1] - box[1]) / (box[3] - box[1])]
    aspect = (box[3] - box[1]) / (box[2] - box[0])
    if aspect > 1:  # the picture is as wide as the panel, and not higher than wide: the sheet is in its middle
        shares[0] = 0.5 + (shares[0] - 0.5) / aspect
    return float(shares[0]), float(shares[1])


# -- surfaces, and units that move

BALL, FACES = icosphere(2)  # seen from +x at the start, with y to the right and z upwards


def on_ball(units: Any = None) -> Places:
    vertex = np.arange(len(BALL)) if units is None else np.asarray(units)
    surface = Surface(BALL, FACES, BALL[:, 2])
    return Places(BALL[vertex][:, 1:], "surface", surface=surface, vertex=vertex)


def vertex_near(view: View, *place: float) -> bool:
    """Whether the unit under the pointer is at a place."""
    found = re.match(r"vertex (\d+): ", view.shown(".status")[0])
    return found is not None and bool(BALL[int(found[1])] @ np.array(place) > 0.95)


def test_a_surface_is_turned_and_tells_its_units(view: View) -> None:
    from selenium.webdriver import ActionChains

    view.show(one_sheet(on_ball(), np.linspace(0, 254, len(BALL))[None])).point(0, 0.5, 0.5)
    assert vertex_near(view, 1, 0, 0)
    unit = int(re.findall(r"\d+", view.shown(".status")[0])[0])
    assert view.shown(".unit")[0].startswith(f"unit {unit}; mean of 6 neighbours ")
    view.point(0, 0.6, 0.5)
    assert BALL[int(re.findall(r"\d+", view.shown(".status")[0])[0]), 1] > 0.1
    assert view.leave().pixel(0, 0.01, 0.01)[3] == 0  # beside it there is nothing
    first = view.picture(0)
    canvas = view.element("canvas")
    quarter = round(np.pi / 2 / 2.5 * canvas.size["width"])
    drag = ActionChains(view.driver, duration=0).move_to_element_with_offset(canvas, -quarter // 2, 0).click_and_hold()
    drag.move_by_offset(quarter, 0).release().perform()
    view.settled().point(0, 0.5, 0.5)
    assert vertex_near(view, 0, -1, 0)
    # by the keys: what is in front moves down by an eighth of the height, and 0 is the side of the start
    view.js("root.querySelector('canvas').focus()")
    view.press("\ue013", shift=True).point(0, 0.5, 0.5)
    angle = 2.5 * canvas.size["height"] / canvas.size["width"] / 8
    assert vertex_near(view, 0, -np.cos(angle), np.sin(angle))
    view.press("0").leave()
    assert view.picture(0) == first


def test_units_that_are_behind_come_to_the_front(view: View) -> None:
    view.show(one_sheet(on_ball(), np.arange(len(BALL))[None])).point(0, 0.5, 0.5, click=True)
    places = []
    for _ in range(12):
        view.press("\ue014")
        places.append(BALL[int(re.findall(r"\d+", view.shown(".status")[0])[0])])
    assert min(place[0] for place in places) < -0.3  # it went around
    assert len({tuple(place) for place in places}) == 12


def test_a_patch_is_shown_on_grey_and_its_wires_as_lines(view: View) -> None:
    units = np.flatnonzero(BALL[:, 0] > 0.5)
    n = len(units)
    middle = int(BALL[units, 0].argmax())
    far = int((BALL[units] @ [0.6, 0, 0.8]).argmax())
    ones = np.ones((n, 1))
    wires = Wires("ball", "ball", (n, n), np.full((n, 1), far), ones, ones, ones)
    sheet = Sheet(on_ball(units), np.full((1, n), 254.0))
    view.show(Scene("", (), (Network("only", None, {"ball": sheet}, {"layer": wires}),)))
    view.choose("compare", "one map only")
    assert "no unit" in view.shown(".legend")[0]
    view.point(0, 0.5, 0.5, click=True)
    assert view.shown(".unit")[0].startswith(f"unit {middle};")
    assert view.leave().pixel(0, 0.5, 0.35)[:3] == BRIGHTEST
    view.choose("colour by", "wires into a unit")
    # from the middle upwards to the unit that is far
    high = float(BALL[units[far], 2])
    for share in (0.4, 0.6, 0.8):
        assert min(sum(p[:3]) for p in view.pixels(0, 0.5, 0.5 - share * 0.25 * high, 8)) < 350
    assert min(sum(p[:3]) for p in view.pixels(0, 0.5, 0.5 + 0.15 * high, 8)) > 450


def test_units_that_moved_go_with_the_epochs(view: View) -> None:
    end = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    moved = np.stack([end[::-1], [[0.5, 0.5], [1, 0], [0, 1], [0, 0]], end])
    means = np.array([[0.0, 1.0, 2.0, 254.0]])
    sheet = Sheet(Places(end, "points"), means, means - 2, np.array([0, 1, 5]), epoch_xy=moved)
    view.show(Scene("", (), (Network("only", None, {"sheet": sheet}, {}),))).choose("compare", "one map only")

    def unit_at(across: float, down: float) -> str:
        return view.point(0, across, down).shown(".unit")[0].split(";")[0]

    assert unit_at(0.15, 0.85) == "unit 0"
    assert view.titles()[0].endswith("mean response; places after epoch 5")
    view.slide("epoch", 0)
    assert unit_at(0.15, 0.85) == "unit 3"
    assert view.shown(".status")[0] == "x 0, y 0: 254"
    assert view.titles()[0].endswith("; places before training")
    view.choose("colour by", "selectivity d′").slide("epoch", 1)
    assert unit_at(0.5, 0.5) == "unit 0"
    rows = list(csv.DictReader(io.StringIO(view.saved("CSV").read_text())))
    assert [float(row["x"]) for row in rows] == pytest.approx([0.5, 1, 0, 0], abs=1e-3)


NINE = np.arange(9.0)[None]
THERE_IS = {
    "no classes": (one_sheet(cells(3, 3), NINE), "0\n4.00\n8.00", "4.00"),
    "one class": (one_sheet(cells(3, 3), NINE, ("a",)), "0\n4.00\n8.00", "4.00"),
    "small numbers": (one_sheet(cells(3, 3), NINE * 1e-9), "0\n4.00e−9\n8.00e−9", "4.00e−9"),
    "one unit": (one_sheet(cells(1, 1), [[3]]), "3.00", "3.00"),
    "one point": (one_sheet(points(1), [[3]]), "3.00", "3.00"),
    "no number": (one_sheet(cells(3, 3), NINE * np.nan), "no value", "no value"),
    "one number": (one_sheet(Places.of(Line(5000)), np.full((1, 5000), -2)), "−2.00", "−2.00"),
    "zeros": (one_sheet(cells(3, 3), NINE * 0), "0", "0"),
    "no epoch": (
        one_sheet(cells(3, 3), NINE, epochs=np.array([], int), epoch_means=np.ones((0, 1, 9))),
        "0\n4.00\n8.00",
        "4.00",
    ),
}


@pytest.mark.parametrize(("scene", "legend", "status"), THERE_IS.values(), ids=THERE_IS)
def test_whatever_there_is_is_shown(view: View, scene: Scene, legend: str, status: str) -> None:
    view.show(scene).point(0, 0.5, 0.5)
    assert len(view.shown("canvas")) == 1
    assert view.shown(".legend") == [f"mean response\n{legend}"]
    assert view.shown(".status")[0].endswith(f": {status}")


def test_a_cell_without_a_unit_is_empty(view: View) -> None:
    view.show(one_sheet(cells(3, 3, 7), np.arange(7)[None])).unit(0, 2, 0, 3)
    assert view.shown(".status") == ["row 2, column 0: 6.00"]
    view.unit(0, 2, 1, 3)
    assert view.shown(".status") == [""]
    assert view.pixel(0, 0.5, 0.9)[3] == 0


def test_networks_with_different_sheets(view: View) -> None:
    one = Network("one", None, {"v1": Sheet(cells(3, 3), np.ones((2, 9)))}, {})
    two = Network("two", None, {"v2": Sheet(points(50), np.random.default_rng(0).random((2, 50)))}, {})
    none = Network("none", None, {}, {})
    view.show(Scene("", ("a", "b"), (none, one, two))).unit(0, 1, 1, 3)
    assert view.titles() == ["Aone: v1, class mean of “a”", "Btwo: v2, class mean of “a”"]
    assert view.shown(".status") == ["row 1, column 1: 1.00", ""]
    rows = view.saved("CSV").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 51
    assert rows[0].startswith("unit,A: column,A: row,B: x,B: y,")


def test_a_scene_without_a_sheet(view: View) -> None:
    text = page(*pack(Scene("", (), (Network("none", None, {}, {}),))))
    path = view.folder / "page.html"
    path.write_text(text, encoding="utf-8")
    view.driver.get(path.as_uri())
    text = "return root?.querySelector('.explorer')?.innerText"
    for _ in range(200):
        if view.js(text):
            break
        time.sleep(0.01)
    assert view.js(text) == "There is no sheet to show."


# -- size


def test_a_million_units_are_drawn_within_a_second(view: View) -> None:
    side = 1024
    y, x = np.mgrid[:side, :side] / side
    values = np.stack([np.sin(9 * x) * np.cos(7 * y) + 1, x * y])
    text = page(*pack(one_sheet(cells(side, side), values.reshape(2, -1), ("a", "b"))))
    marks = "return performance.getEntriesByName(`explorer:${arguments[0]}`)[0].startTime"
    taken = []
    for _ in range(3):  # a machine that has other work may be slow at times
        view.open(text)
        taken.append(view.js(marks, "drawn") - view.js(marks, "start"))
    assert min(taken) < 1000
    view.point(0, 0.3, 0.7)
    assert re.match(r"row 7\d\d, column 30\d: ", view.shown(".status")[0])
    frames = view.driver.execute_async_script(
        "const done = arguments[0], root = document.querySelector('[data-explorer]').shadowRoot, times = [];"
        "const canvas = root.querySelector('canvas');"
        "const press = (key, shiftKey) => canvas.dispatchEvent(new KeyboardEvent('keydown', {key, shiftKey}));"
        "for (const _ of Array(6)) press('+');"
        "const tick = (t) => { times.push(t); if (times.length > 30) return done(times);"
        "press(times.length % 10 < 5 ? 'ArrowRight' : 'ArrowLeft', true); requestAnimationFrame(tick); };"
        "requestAnimationFrame(tick)"
    )
    assert np.median(np.diff(frames)) < 100


# -- its doors


BARE = "<!doctype html><meta charset=utf-8><link rel=icon href=data:,><body>"


def test_several_explorers_in_a_page(view: View) -> None:
    first, second = pack(study()), pack(one_sheet(cells(2, 2), np.eye(4)[:1]))
    view.open(BARE + fragment(*first) + fragment(*second, module=False))
    view.driver.execute_async_script(
        "const done = arguments[0], all = () => [...document.querySelectorAll('[data-explorer]')];"
        "const drawn = () => all().every(host => host.shadowRoot?.querySelector('canvas'));"
        "const wait = () => drawn() ? done() : setTimeout(wait, 5); wait()"
    )
    view.unit(0, 2, 3)
    other = "return document.querySelectorAll('[data-explorer]')[1].shadowRoot.querySelector('.status').textContent"
    assert view.shown(".status")[0]
    assert view.js(other) == ""


def test_without_javascript_there_is_a_text(view: View) -> None:
    (view.folder / "page.html").write_text(page(*pack(study())), encoding="utf-8")
    view.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        view.driver.get((view.folder / "page.html").as_uri())
        tree = view.driver.execute_cdp_cmd("DOMSnapshot.captureSnapshot", {"computedStyles": []})
        shown = [tree["strings"][i] for i in tree["documents"][0]["layout"]["text"] if i >= 0]
    finally:
        view.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    told = "A study: the maps of 6 networks. Exploring them needs JavaScript."
    assert [text for text in shown if text.strip()] == [told]


def test_a_notebooks_widget(view: View) -> None:
    """The module as a notebook loads it: traits, with the data anywhere in a buffer."""
    description, data = pack(study())
    (view.folder / "page.html").write_text(BARE, encoding="utf-8")
    view.driver.get((view.folder / "page.html").as_uri())
    told = view.driver.execute_async_script(
        "const [code, description, data, done] = arguments;"
        "const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0)), buffer = new ArrayBuffer(bytes.length + 1);"
        "new Uint8Array(buffer, 1).set(bytes);"
        "const traits = {description, data: new DataView(buffer, 1)}, heard = {};"
        "const model = {get: name => traits[name], on: (name, f) => heard[name] = f, off: name => delete heard[name]};"
        "import(URL.createObjectURL(new Blob([code], {type: 'text/javascript'}))).then(async ({default: {render}}) => {"
        "  const stop = await render({model, el: document.body}), root = () => document.body.firstChild.shadowRoot;"
        "  const first = root().querySelector('h3').textContent;"
        "  traits.description = {...description, title: 'Another'}; heard['change:description']();"
        "  const second = root().querySelector('h3').textContent;"
        "  stop(); const left = [document.body.children.length, Object.keys(heard).length];"
        "  requestAnimationFrame(() => done([first, second, ...left])); })",
        source(),
        description,
        base64.b64encode(data).decode(),
    )
    assert told == ["A study", "Another", 0, 0]


def test_the_network_that_a_page_names_stands_beside_the_first(view: View) -> None:
    made = study()
    view.show(replace(made, against="weak"))
    assert view.chosen("network of map B") == "weak"
    view.show(replace(made, against="nobody"))
    assert view.chosen("network of map B") == "strong"
    view.show(replace(made, against="control"))
    assert view.chosen("network of map B") == "strong"


def test_no_more_digits_are_shown_than_were_kept(view: View) -> None:
    """Maps of earlier epochs are kept in 254 steps, here of 1/254 each."""
    means = np.array([[0.0, 1 / 3, 1.0, 0.5]])
    growth = np.stack([means, means])
    view.show(one_sheet(cells(2, 2), means, epochs=np.array([0, 3]), epoch_means=growth))
    view.unit(0, 0, 1, 2, click=True)
    assert view.chosen("compare") == "two epochs"
    assert view.shown(".status") == ["row 0, column 1: 0.33 (pinned)", "row 0, column 1: 0.333"]


def test_a_unit_without_a_preference_has_no_preferred_class(view: View) -> None:
    d = np.array([[1.0, 0.0, 2.0, -1.0], [0.0, 0.0, 2.0, -0.5]])
    view.show(one_sheet(cells(2, 2), np.ones((2, 4)), ("p", "q"), selectivity=d))
    view.choose("compare", "one map only").choose("colour by", "preferred class")
    told = []
    for unit in range(4):
        view.unit(0, *divmod(unit, 2), 2)
        told.append(view.shown(".status")[0].split(": ")[1])
    assert told == ["p", "no preference", "no preference", "q"]


def test_what_is_of_another_epoch_than_the_map_says_so(view: View) -> None:
    view.show(study()).choose("compare", "two epochs").unit(0, 2, 2, click=True)
    assert "Class means, before training" in view.shown(".unit")[0]
    assert "Strongest wires in: fc, after training" in view.shown(".unit")[0]
    assert "after training" not in view.shown(".unit")[1]
    view.choose("compare", "two networks").choose("colour by", "selectivity d′")
    assert "before training" not in view.shown(".unit")[0]
    view.choose("compare", "two epochs").choose("compare", "two networks")
    assert view.titles()[0].endswith("after epoch 4")


def test_correlations_from_few_factors_are_called_approximate(view: View) -> None:
    factors = np.array([[0.8, 0.8, 0.8, 0.8]])
    view.show(one_sheet(cells(2, 2), np.ones((1, 4)), factors=factors))
    view.choose("compare", "one map only").choose("colour by", "correlation with a unit").unit(0, 0, 1, 2)
    assert view.shown(".legend")[0].startswith(
        "approximate correlation over items, by factors that hold 64 % of the variance"
    )
    assert view.shown(".status")[0] == "row 0, column 1: 0.64"


def test_more_wires_may_leave_a_unit_than_enter_one(view: View) -> None:
    places = cells(3, 3)
    hub = Wires("s", "t", (9, 9), np.zeros((9, 2), int), np.ones((9, 2)), np.ones((9, 2)), np.full((9, 2), 0.5))
    sheets = {"t": Sheet(places, np.ones((1, 9))), "s": Sheet(places, np.ones((1, 9)))}
    view.show(Scene("", (), (Network("n", None, sheets, {"l": hub}),))).choose("compare", "one map only")
    view.choose("sheet", "s").choose("colour by", "wires that would be kept").unit(0, 0, 0, 3)
    assert view.shown(".status") == ["row 0, column 0: 18"]
    assert view.shown(".legend")[0].endswith("\n0\n9.00\n18.0")
