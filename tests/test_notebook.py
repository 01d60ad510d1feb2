"""The explorer in notebooks: executed by a program, and opened in JupyterLab in a browser."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeVar

import pytest

import locality_prior as lp

T = TypeVar("T")

CODE = """\
import numpy as np
import locality_prior as lp

rng = np.random.default_rng(0)
lp.explore(rng.random((40, 48)), lp.Grid(6, 8), np.arange(40) % 4)"""


@pytest.fixture(autouse=True)
def the_same_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels import the package that is tested."""
    home = str(Path(lp.__file__).parent.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([home, os.environ.get("PYTHONPATH", "")]).strip(os.pathsep))


def notebook() -> Any:
    nbformat = pytest.importorskip("nbformat")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)], metadata={"kernelspec": kernel})


class Frames(HTMLParser):
    """The pages in the frames of a page, and the types of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.pages: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        if tag == "iframe":
            self.pages.append(given["srcdoc"])
        if tag == "script":
            self.scripts.append(given.get("type", ""))


def converted(notebook: Any) -> str:
    """A notebook that nbconvert has made into a page, with the explorer in a frame."""
    text: str = pytest.importorskip("nbconvert").HTMLExporter().from_notebook_node(notebook)[0]
    found = Frames(text)
    assert not [kind for kind in found.scripts if "widget" in kind]
    (page,) = found.pages
    assert "data-explorer" in page
    return text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Jupyter's own
def test_an_executed_notebook_holds_the_page() -> None:
    book = notebook()
    pytest.importorskip("nbclient").NotebookClient(book, timeout=120, kernel_name="python3").execute()
    assert "widgets" not in book.metadata  # nobody is there, so nothing is connected with a page
    (output,) = book.cells[0].outputs
    assert set(output["data"]) == {"text/plain", "text/html"}
    converted(book)


def until(wanted: Callable[[], T | None], seconds: float = 60, what: str = "") -> T:
    """What ``wanted`` gives, once it gives something."""
    end = time.monotonic() + seconds
    while not (found := wanted()):
        assert time.monotonic() < end, f"nothing after {seconds} s: {what}"
        time.sleep(0.2)
    return found


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """JupyterLab: the folder that it shows, and its address."""
    if importlib.util.find_spec("jupyterlab") is None:
        pytest.skip("jupyterlab is not installed")
    folder, config = tmp_path / "folder", tmp_path / "config"
    folder.mkdir()
    (config / "labconfig").mkdir(parents=True)
    quiet = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (config / "labconfig" / "page_config.json").write_text(json.dumps(quiet))
    places = {"CONFIG": config, "RUNTIME": tmp_path / "runtime", "DATA": tmp_path / "data"}
    environment = {**os.environ, **{f"JUPYTER_{name}_DIR": str(path) for name, path in places.items()}}
    environment |= {"JUPYTERLAB_WORKSPACES_DIR": str(tmp_path), "JUPYTERLAB_SETTINGS_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.port=0"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={folder}"]
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    try:
        (told,) = until(lambda: list((tmp_path / "runtime").glob("jpserver-*.json")), what="JupyterLab")
        at = until(lambda: json.loads(told.read_text() or "{}"))
        yield folder, f"{at['url']}lab/tree/book.ipynb?token={at['token']}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,1400"):
        options.add_argument(word)
    options.add_argument(f"--user-data-dir={tmp_path / 'browser'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield found
    finally:
        found.quit()


#: The first element under the cell's output that has a shadow root with a canvas.
HOST = """
for (const one of document.querySelectorAll(".jp-OutputArea-output *"))
  if (one.shadowRoot && one.shadowRoot.querySelector("canvas")) return one;
"""
STATUS = "return document.querySelector('#jp-main-statusbar')?.innerText"
TEXT = """
const texts = [];
for (const one of arguments[0].shadowRoot.children) if (one.localName !== "style") texts.push(one.textContent);
return texts.join(" ");
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_widget_in_jupyterlab(lab: tuple[Path, str], browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    folder, address = lab
    file = folder / "book.ipynb"
    file.write_text(json.dumps(notebook()))
    browser.get(address)
    browser.set_script_timeout(20)

    def all_of(selector: str) -> list[Any]:
        found: list[Any] = browser.find_elements(By.CSS_SELECTOR, selector)
        return found

    until(lambda: "| Idle" in (browser.execute_script(STATUS) or ""), what="the kernel")
    cell = until(lambda: all_of(".jp-CodeCell .cm-content"), what="the notebook")[0]
    ActionChains(browser).click(cell).key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()
    host = until(lambda: browser.execute_script(HOST), what="the widget")
    assert not all_of(".jp-OutputArea-output iframe")  # the widget, not the page for those who have none

    before = browser.execute_script(TEXT, host)
    canvas = browser.execute_script("return arguments[0].shadowRoot.querySelector('canvas')", host)
    ActionChains(browser).move_to_element_with_offset(canvas, 3, 5).perform()
    until(lambda: browser.execute_script(TEXT, host) != before, 10, "an answer to the pointer")
    messages = [one["message"] for one in browser.get_log("browser") if one["level"] == "SEVERE"]
    assert not [text for text in messages if "explorer" in text or "anywidget" in text]

    ActionChains(browser).key_down(Keys.CONTROL).send_keys("s").key_up(Keys.CONTROL).perform()
    until(lambda: "<iframe srcdoc" in file.read_text(), what="the saved notebook")
    page = tmp_path / "page.html"
    page.write_text(converted(pytest.importorskip("nbformat").read(file, as_version=4)), encoding="utf-8")
    browser.get(page.as_uri())
    browser.switch_to.frame(until(lambda: all_of("iframe"), what="the frame")[0])
    until(lambda: browser.execute_script(HOST.replace(".jp-OutputArea-output", "body")), what="the explorer in it")
