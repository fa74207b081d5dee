"""The report in a real browser: by itself from a disk, on a phone, and inside MLflow's sandboxed frame."""

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from browser import console, open_browser, requests, set_width
from judged_workspace import BAD, GOOD, make_judged
from selenium import webdriver
from selenium.webdriver.common.by import By

MLFLOW_FRAME = """
const frame = document.createElement('iframe');
frame.sandbox = 'allow-scripts';
frame.width = '100%';
frame.height = '800';
frame.src = URL.createObjectURL(new Blob([arguments[0]], {type: 'text/html'}));
const done = arguments[1];
frame.onload = () => done();
document.body.replaceChildren(frame);
"""
"""How MLflow's page shows an HTML artifact."""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of a policy that passes, of one that is refused, and of a void verdict."""
    before, made = Path.cwd(), {}
    void = {name: outcomes for name, outcomes in GOOD.items() if name != "policy"}
    try:
        for verdict, outcomes in {"pass": GOOD, "refuse": BAD, "void": void}.items():
            folder = tmp_path_factory.mktemp(verdict)
            os.chdir(folder)
            made[verdict] = make_judged(folder, outcomes)
    finally:
        os.chdir(before)
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with open_browser() as driver:
        yield driver


def open_page(browser: webdriver.Chrome, report: Path, width: int = 1280, phone: bool = False) -> None:
    set_width(browser, width, phone)
    browser.get(report.as_uri())


@pytest.mark.parametrize(
    ("verdict", "words"),
    [("pass", "26 of 28 episodes succeeded"), ("refuse", "the floor test says no"), ("void", "policy.json is missing")],
)
def test_the_verdict_is_seen_without_scrolling(
    browser: webdriver.Chrome, reports: dict[str, Path], verdict: str, words: str
) -> None:
    open_page(browser, reports[verdict], width=390, phone=True)
    sentence = browser.find_element(By.ID, "verdict")
    assert sentence.is_displayed() and words in sentence.text
    assert sentence.rect["y"] + sentence.rect["height"] < 500
    heading = browser.find_element(By.TAG_NAME, "h1")
    assert heading.text == {"pass": "Passed", "refuse": "Refused", "void": "Void"}[verdict]


@pytest.mark.parametrize("verdict", ["pass", "refuse", "void"])
def test_nothing_is_logged_and_no_request_leaves(
    browser: webdriver.Chrome, reports: dict[str, Path], verdict: str
) -> None:
    console(browser), requests(browser)
    open_page(browser, reports[verdict])
    browser.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert console(browser) == []
    assert requests(browser) == [reports[verdict].as_uri()]


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
@pytest.mark.parametrize("verdict", ["pass", "refuse", "void"])
def test_no_page_is_wider_than_its_screen(
    browser: webdriver.Chrome, reports: dict[str, Path], verdict: str, width: int
) -> None:
    open_page(browser, reports[verdict], width, phone=width < 768)
    browser.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_letters_of_charts_can_be_read_on_a_phone(browser: webdriver.Chrome, reports: dict[str, Path]) -> None:
    open_page(browser, reports["pass"], width=390, phone=True)
    heights = [
        word.rect["height"]
        for chart in ("success", "path", "map")
        for word in browser.find_elements(By.CSS_SELECTOR, f"svg[aria-labelledby^='{chart}-'] text")
    ]
    assert heights and min(heights) >= 9


def test_a_screen_reader_finds_its_way(browser: webdriver.Chrome, reports: dict[str, Path]) -> None:
    open_page(browser, reports["pass"])
    browser.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    charts = browser.find_elements(By.TAG_NAME, "svg")
    assert len(charts) >= 6
    for chart in charts:
        assert chart.aria_role in ("img", "image") and len(chart.accessible_name) > 5
        described = browser.execute_script("return arguments[0].querySelector(':scope > desc').textContent", chart)
        assert described in chart.accessible_name and len(described) > 10
    films = browser.find_elements(By.TAG_NAME, "video")
    assert len(films) == 16 and all("seed" in film.accessible_name for film in films)
    assert len({film.accessible_name for film in films}) == len(films)
    levels = [int(heading.tag_name[1]) for heading in browser.find_elements(By.CSS_SELECTOR, "h1,h2,h3,h4,h5,h6")]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    cells = browser.find_elements(By.TAG_NAME, "th")
    assert cells and all(cell.get_attribute("scope") in ("row", "col") for cell in cells)
    twice = browser.execute_script(
        "const ids = [...document.querySelectorAll('[id]')].map(one => one.id);"
        "return ids.filter((one, place) => ids.indexOf(one) !== place)"
    )
    assert twice == []


def test_links_inside_lead_somewhere(browser: webdriver.Chrome, reports: dict[str, Path]) -> None:
    open_page(browser, reports["pass"])
    broken = browser.execute_script(
        "return [...document.querySelectorAll('a[href^=\"#\"]')].map(one => one.getAttribute('href'))"
        ".filter(address => document.getElementById(address.slice(1)) === null)"
    )
    assert broken == []
    browser.find_element(By.LINK_TEXT, "Lineage").click()
    assert browser.execute_script("return document.querySelector(':target').id") == "lineage"


def test_a_film_plays(browser: webdriver.Chrome, reports: dict[str, Path]) -> None:
    open_page(browser, reports["pass"])
    film = browser.find_element(By.TAG_NAME, "video")
    picture = browser.execute_async_script(
        "const picture = new Image(), done = arguments[1];"
        "picture.onload = () => done([picture.naturalWidth, picture.naturalHeight]);"
        "picture.onerror = () => done(null);"
        "picture.src = arguments[0].poster",
        film,
    )
    assert picture == [512, 192]
    ended = browser.execute_async_script(
        "const film = arguments[0], done = arguments[1];"
        "film.onended = () => done(film.currentTime); film.onerror = () => done(film.error.message);"
        "film.playbackRate = 8; film.play().catch(error => done(String(error)))",
        film,
    )
    assert ended == pytest.approx(2.0, abs=0.2)


def test_it_works_in_mlflows_frame(browser: webdriver.Chrome, reports: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<!doctype html><title>MLflow</title><link rel='icon' href='data:,'><body>")
    browser.get((tmp_path / "page.html").as_uri())
    console(browser), requests(browser)
    browser.execute_async_script(MLFLOW_FRAME, reports["refuse"].read_text())
    browser.switch_to.frame(0)
    assert "the floor test says no" in browser.find_element(By.ID, "verdict").text
    summary = browser.find_element(By.XPATH, "//summary[starts-with(., 'script')]")
    summary.click()
    assert summary.find_element(By.XPATH, "..").get_attribute("open")
    # Chromium lets no link move a sandboxed blob; the page must stay as it is.
    browser.find_element(By.LINK_TEXT, "Lineage").click()
    assert browser.find_element(By.ID, "lineage").text == "Where it comes from"
    browser.switch_to.default_content()
    assert console(browser) == []
    assert all(address.startswith("blob:") for address in requests(browser))
