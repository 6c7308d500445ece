"""The page at `/` in a real browser, and what was added to the API for it."""

import csv
import re
import shutil
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from lorabank.server.access import add_key
from lorabank.tasks.examples import Example

from .conftest import Running
from .test_memory_api import TRAINS

NewServer = Callable[..., Running]
PAGE = resources.files("lorabank.server") / "page"
MARKUP = '<img src=x onerror="document.title=1">'
WAIT_S = 60


def test_explained_answers_say_why_each_candidate_was_not_taken(
    server: Running, book: list[Example]
):
    def told(question: str, model: str = "memory") -> dict[str, Any]:
        body = {"model": model, "lorabank": {"explain": True}}
        turns = [{"role": "user", "content": question}]
        reply = server.http.post("/v1/chat/completions", json={**body, "messages": turns})
        return dict(reply.json()["lorabank"])

    known = told(book[0].question)
    assert len(known["outcomes"]) == len(known["candidates"]) > 0
    strange = told("What is the phone number of Zuzu Nobody?")
    assert 0 < strange["threshold"] < 1
    assert strange["kind"] == "abstained"
    assert all("refused" in outcome for outcome in strange["outcomes"])
    below = [c["p"] < strange["threshold"] for c in strange["candidates"]]
    says_least = ["answers from" in outcome for outcome in strange["outcomes"]]
    assert says_least == below
    status = server.http.get("/status").json()
    gate = status["bank"]["gate"]
    assert [point["allowed"] for point in gate["curve"]] == [0.01, 0.02, 0.05, 0.1, 0.2]
    assert gate["threshold"] == strange["threshold"]
    assert status["scopes"] == ["admin", "ask", "write"]
    assert status["bank"]["modules"] == 2
    assert status["bank"]["cache"]["bytes"] > 0


def test_the_page_is_served_without_a_key_and_the_data_is_not(
    new_server: NewServer, tmp_path: Path
):
    key = add_key(tmp_path / "keys", "reader", scopes=["ask"])
    http = new_server("--api-key-file", str(tmp_path / "keys")).http
    page = http.get("/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in re.findall(r'(?:src|href)="(/page/[^"]+)"', page.text):
        assert http.get(name).status_code == 200
    assert http.get("/page/../access.py").status_code == 401
    assert http.get("/page/none.js").status_code == 401
    assert http.get("/status").status_code == 401
    status = http.get("/status", headers={"x-api-key": key}).json()
    assert (status["needs_key"], status["key"], status["scopes"]) == (True, "reader", ["ask"])


def test_the_page_fetches_nothing_from_elsewhere_and_parses_no_text_as_markup():
    for file in PAGE.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z]|@import|url\(", text.replace("// ", "")), file.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)
        assert not re.search(r"<script>|<style| style=| on[a-z]+=", text), file.name


class Page:
    """A browser on the page."""

    def __init__(self, driver: Any, url: str):
        self.driver, self.url = driver, url

    def show(self, section: str = "") -> None:
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}/#{section}")
        self.until("return !document.getElementById('view').hidden")

    def until(self, script: str, *arguments: Any) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(self.driver, WAIT_S, poll_frequency=0.1)
        return wait.until(lambda driver: driver.execute_script(script, *arguments))

    def says(self, selector: str, text: str) -> str:
        """Wait until an element's text has this."""
        script = (
            "const e = document.querySelector(arguments[0]);"
            "return e && e.innerText.includes(arguments[1]) ? e.innerText : ''"
        )
        return str(self.until(script, selector, text))

    def find(self, selector: str) -> Any:
        self.until("return document.querySelector(arguments[0])", selector)
        return self.driver.find_element("css selector", selector)

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def ask(self, question: str) -> None:
        self.show("ask")
        self.find("#question").send_keys(question, "\n")

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """A browser without a window; tests that need it are skipped where there is none."""
    selenium = pytest.importorskip("selenium.webdriver", reason="drives the browser of these tests")
    browser, its_driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not its_driver:
        pytest.skip("needs Chromium and its driver")
    options = selenium.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(its_driver))
    driver.set_window_size(1200, 900)
    yield driver
    driver.quit()


@pytest.fixture
def page(driver: Any, server: Running) -> Page:
    driver.get_log("browser")  # what tests before it left
    return Page(driver, server.url)


def test_an_answer_with_its_source_and_its_candidates(page: Page, book: list[Example]):
    page.ask(book[0].question)
    assert book[0].answer in page.says("#answer", "sure")
    assert "north version 2" in page.says("#answer .from", "source north.csv")
    assert "Outcome" in page.says("#why", "Candidates")
    page.ask("What is the phone number of Zuzu Nobody?")
    page.says("#answer", "Not in memory")
    page.says("#why", "Refused:")
    assert page.errors() == []


def test_modules_with_what_was_measured(page: Page):
    page.show("modules")
    row = page.says("tbody", "north")
    assert "100\u00a0%" in row
    page.find('a[href="#modules/north"]').click()
    page.says(".body", "No fact is missing")
    page.says(".body", "What it was taught")
    page.find("button.small").click()
    page.says("#module-outcome", "Version 1 is current now")
    page.find("button.small").click()
    page.says("#module-outcome", "Version 2 is current now")
    page.show("health")
    page.says("#now", "Requests that wait")
    page.show("history")
    page.says("tbody", "rollback")
    assert page.errors() == []


def test_a_fact_is_remembered_found_changed_and_forgotten_as_text(page: Page):
    page.show("write")
    page.find("#fact-text").send_keys(f"Who is {MARKUP}?")
    page.find("#fact-answer").send_keys(f"{MARKUP} himself")
    page.find("#remember-form button").click()
    assert MARKUP in page.says("#remember-outcome", "Remembered")
    page.show("facts")
    page.find("#search").send_keys("himself")
    page.says("#found-count", "1 fact found")
    page.find("#found tbody a").click()
    page.says(".answer", f"{MARKUP} himself")
    page.find("#new-value").send_keys("somebody <b>else</b>")
    page.find("#edit-form button").click()
    page.says("#fact-outcome", "Saved")
    values = page.says(".timeline", "somebody <b>else</b>")
    assert "superseded" in values
    page.ask(f"Who is {MARKUP}?")
    page.says("#answer", "somebody <b>else</b>")
    page.show("history")
    page.says("tbody", "remember")
    page.show("facts")
    page.find("#found tbody a").click()
    page.find("#view button.danger").click()
    page.find("#dialog-yes").click()
    assert "Files that still hold it\nnone" in page.says("#fact-proof", "Forgotten")
    page.show("facts")
    page.says("#found", "Nothing is remembered yet")
    assert page.driver.execute_script("return document.querySelectorAll('img, b').length") == 0
    assert page.driver.title == "Facts · lorabank"
    assert page.errors() == []


def test_a_file_is_taught_and_what_stuck_is_shown(
    driver: Any, new_server: NewServer, book: list[Example], tmp_path: Path
):
    page = Page(driver, new_server("--pending-limit", "0", code=TRAINS).url)
    file = tmp_path / "east.csv"
    with file.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["prompt", "answer"])
        rows.writerows([e.question, e.answer] for e in book[12:16])
    page.show("write")
    page.driver.execute_script(_DROP, file.read_text())
    page.find("#teach-form button").click()
    page.says("#teach-outcome", "wait to be taught")
    page.says("#jobs", "4 of 4 facts stuck")
    page.says("#jobs-said", "east")
    page.find('a[href="#modules/east"]').click()
    page.says(".body", "No fact is missing")
    page.show("write")
    page.find("#file").send_keys(str(file))
    page.find("#teach-form button").click()
    page.says("#teach-outcome .fault", "exists")


# A file of facts let go over the place where files are dropped.
_DROP = """
const dataTransfer = new DataTransfer();
dataTransfer.items.add(new File([arguments[0]], "east.csv"));
const event = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
document.getElementById("drop").dispatchEvent(event);
"""


def test_everything_is_reached_by_keys_alone(page: Page, server: Running, book: list[Example]):
    from selenium.webdriver.common.keys import Keys

    page_http = server.http

    def focus() -> str:
        return str(
            page.driver.execute_script(
                "const e = document.activeElement; return e.id || e.textContent.trim()"
            )
        )

    page.show()
    page.until("return document.activeElement.id === 'question'")
    page.press(book[1].question, Keys.ENTER)
    page.says("#answer", book[1].answer)
    assert focus() == "question"
    visited = []
    page.driver.execute_script("document.activeElement.blur(); document.body.focus()")
    page.show("modules")
    for _ in range(7):
        page.press(Keys.TAB)
        visited.append(focus())
        ring = "return getComputedStyle(document.activeElement).outlineStyle"
        assert page.driver.execute_script(ring) == "solid", visited
    assert visited == [
        "Skip to the content", "Ask", "Modules", "Facts", "Write", "History", "Health",
    ]  # fmt: skip
    remembered = {"question": "Who paints the buoys?", "answer": "Liv Aas"}
    page_http.post("/memories", json=remembered).raise_for_status()
    page.show("modules")

    def tab_to(text: str) -> None:
        for _ in range(40):
            page.press(Keys.TAB)
            if focus() == text:
                return
        raise AssertionError(f"no Tab leads to {text}")

    tab_to("Facts")
    page.press(Keys.ENTER)
    page.says("#found", "Liv Aas")
    assert focus() == "Facts"  # the heading of what is shown now
    tab_to(remembered["question"])
    page.press(Keys.ENTER)
    page.says(".body", "Give it another value")
    tab_to("new-value")
    page.press("Ola Vik", Keys.ENTER)
    page.says("#fact-outcome", "Saved")
    assert focus() == "new-value"
    tab_to("Forget this fact")
    page.press(Keys.ENTER)
    assert focus() == "Keep"
    page.press(Keys.ESCAPE)
    page.until("return !document.getElementById('dialog').open")
    assert focus() == "Forget this fact"
    page.press(Keys.ENTER)
    tab_to("dialog-yes")
    page.press(Keys.ENTER)
    page.says("#fact-proof", "Forgotten")
    assert focus() == "back"


@pytest.mark.parametrize("width", [320, 400])
def test_a_phone_shows_all_without_scrolling_sideways(page: Page, book: list[Example], width: int):
    size = {"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.ask(book[2].question)
        page.says("#why", "Candidates")
        for section in ("", "modules", "modules/north", "facts", "write", "history", "health"):
            if section:
                page.show(section)
                page.until("return !document.querySelector('.body').innerText.includes('Loading')")
            script = "return [document.documentElement.scrollWidth, innerWidth]"
            assert page.driver.execute_script(script) == [width, width], section
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(page: Page, scheme: str):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        grounds = []
        for section in ("ask", "modules", "modules/north", "write", "history", "health"):
            page.show(section)
            page.until("return !document.querySelector('.body').innerText.includes('Loading')")
            found = page.driver.execute_script(_CONTRASTS)
            assert len(found) > 5
            assert [text for text, ratio in found if ratio < 4.5] == [], section
            grounds.append(
                page.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
            )
        (red,) = {int(re.findall(r"\d+", ground)[0]) for ground in grounds}
        assert red < 64 if scheme == "dark" else red > 192
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


# Every visible text with its contrast to the nearest ground that is not transparent (WCAG 2.2).
_CONTRASTS = """
const light = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const value = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
const found = [];
for (const e of document.querySelectorAll("body *")) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || !e.getClientRects().length || e.closest("dialog, noscript, svg")) continue;
  let ground = e;
  const isClear = (g) => numbers(getComputedStyle(g).backgroundColor)[3] === 0;
  while (ground && isClear(ground)) ground = ground.parentElement;
  const a = value(numbers(getComputedStyle(e).color));
  const b = value(numbers(getComputedStyle(ground ?? document.body).backgroundColor));
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  found.push([e.textContent.trim().slice(0, 40), ratio]);
}
return found;
"""


def test_a_key_is_asked_for_and_what_it_may_not_do_is_said(
    driver: Any, new_server: NewServer, tmp_path: Path
):
    key = add_key(tmp_path / "keys", "reader", scopes=["ask"])
    page = Page(driver, new_server("--api-key-file", str(tmp_path / "keys")).url)
    driver.get(page.url)
    page.until("return !document.getElementById('key').hidden")
    page.find("#key-value").send_keys("wrong\n")
    page.says("#key-fault", "not known")
    page.find("#key-value").send_keys(key, "\n")
    page.until("return !document.getElementById('view').hidden")
    kept = driver.execute_script(
        "return [localStorage.length, document.cookie, sessionStorage.length]"
    )
    assert kept == [0, "", 1]
    page.show("write")
    page.says(".body", "may not remember or teach")
    page.show("modules/north")
    page.says(".body", "may not forget modules")
    page.find("#leave").click()
    page.until("return !document.getElementById('key').hidden")
    assert driver.execute_script("return sessionStorage.length") == 0
