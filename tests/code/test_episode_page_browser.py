"""The page of an episode in a real browser: it asks for nothing, plays, and its line follows the video."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import console, open_browser, requests, set_width
from selenium import webdriver
from selenium.webdriver.common.by import By

from psi0.watch.episode_page import write_page
from psi0.watch.recording import Recording, Track

FRAMES = 20
SEEK = """
const video = document.querySelector('video'), done = arguments[0];
video.addEventListener('seeked', () => done(document.querySelector('.now').getAttribute('transform')));
video.currentTime = video.duration / 2;
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with open_browser() as driver:
        yield driver


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """An episode of one joint, whose instruction would be markup if it were taken as such."""
    times = np.arange(FRAMES) / 10
    track = Track("left_elbow_joint", "rad", np.sin(times), np.full(FRAMES, np.nan), (-0.5, 2.0))
    recording = Recording(
        folder=Path("some/dataset"),
        number=3,
        name="episode_3",
        instruction="pick <script>alert(1)</script> up",
        fps=10.0,
        times=times,
        images=np.full((FRAMES, 40, 72, 3), 90, np.uint8),
        groups={"Left arm": [track]},
        absent=0,
        has_limits=True,
        synthetic=False,
    )
    write_page(tmp_path / "episode.html", recording)
    return tmp_path / "episode.html"


def test_it_shows_everything_and_asks_for_nothing(browser: webdriver.Chrome, page: Path) -> None:
    set_width(browser, 390, phone=True)
    browser.get(page.as_uri())
    assert browser.find_element(By.TAG_NAME, "h1").text == "pick <script>alert(1)</script> up"
    assert browser.find_element(By.TAG_NAME, "svg").is_displayed()
    transform = browser.execute_async_script(SEEK)
    assert float(transform.removeprefix("translate(").split(" ")[0]) == pytest.approx(125.0, abs=5)
    assert browser.execute_script("return document.querySelector('video').videoWidth") == 504
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert requests(browser) == [page.as_uri()] and console(browser) == []
