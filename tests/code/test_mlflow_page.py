"""A person moves the alias `champion` in MLflow's own page, in a real browser: `watch` and the worker answer."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from flows.deploy import deploy
from infra.services import stack
from psi0.connection import connect
from psi0.deploy.publish import read_pointer
from psi0.registry.champion import read_state
from psi0.registry.promotion import promote
from psi0.registry.promotion_files import keep, read_promotion
from psi0.registry.reconcile import BY_HAND
from psi0.registry.tracking import open_tracking
from psi0.registry.versions import aliases, find_version
from tests.code.browser import open_browser, set_width
from tests.code.judged_versions import BAD, GOOD, TASK, played_as, register_version
from tests.ports import free_ports

pytestmark = pytest.mark.long
PAGE_SECONDS = 120.0


@pytest.fixture
def browser() -> Iterator[webdriver.Chrome]:
    with open_browser() as driver:
        set_width(driver, 1560)
        yield driver


@pytest.fixture
def services(
    checkout: Callable[[str], Path], use_settings: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[MlflowClient]:
    """A checkout whose services all run, Ray excepted, its flows deployed."""
    folder, first = checkout("checkout"), free_ports(9)
    monkeypatch.chdir(folder)
    ports = {"s3_port": first, "s3_internal_port": first + 1, "mlflow_port": first + 4}
    use_settings(home=folder / ".psi0", prefect_port=first + 5, watch_port=first + 6, ray_port=first + 7, **ports)
    try:
        stack.up(only={"s3", "mlflow", "prefect", "worker", "watch"})
        deploy()
        yield open_tracking()
    finally:
        stack.down()


def add_champion(browser: webdriver.Chrome, version: str) -> None:
    """Give a version the alias `champion` as a person does; returns when the page says that it is saved."""
    wait = WebDriverWait(browser, PAGE_SECONDS)
    browser.get(f"{connect().mlflow_uri}/#/models/psi0-{TASK}/versions/{version}")
    edit = (By.CSS_SELECTOR, "button[title='Add aliases'], button[title='Edit aliases']")
    wait.until(lambda page: page.find_elements(*edit))[0].click()
    box = wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, "[role=dialog] input"))[0]
    box.send_keys("champion", Keys.ENTER)
    save = wait.until(lambda page: page.find_element(By.XPATH, "//button[contains(., 'Save aliases')]"))
    wait.until(lambda page: save.is_enabled())
    save.click()
    wait.until(lambda page: not page.find_elements(By.CSS_SELECTOR, "[role=dialog] input"))


def until(true: Callable[[], object], seconds: float) -> float:
    """Wait until something is true; returns how long it took."""
    begin = time.monotonic()
    while not true():
        assert time.monotonic() - begin < seconds, f"not within {seconds:.0f} s"
        time.sleep(0.1)
    return time.monotonic() - begin


def test_the_page_refuses_what_may_not_be_champion_and_publishes_what_may(
    services: MlflowClient, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    first, refused, better = (register_version(services, tmp_path, outcomes) for outcomes in (GOOD, BAD, GOOD))
    promote(services, TASK, first.number)
    keep(services, better, played_as(0)(services, better, first))

    add_champion(browser, refused.number)
    took = until(lambda: aliases(services, TASK)["champion"] == first.number, 10)
    until(lambda: find_version(services, TASK, refused.number).tags.get("promotion") == "refused", 5)
    print(f"the alias came back {took:.1f} s after the page said that it was saved")
    assert read_state(services, TASK).settled

    add_champion(browser, better.number)
    took = until(lambda: read_state(services, TASK).settled and read_pointer_version() == better.number, 180)
    print(f"published {took:.1f} s after the page said that it was saved")
    record = read_promotion(services, better)
    assert record is not None and (record.by, record.how, record.champion_before) == (BY_HAND, "evidence", "1")
    assert aliases(services, TASK)["previous"] == first.number


def read_pointer_version() -> str | None:
    """Version that is deployed."""
    pointer = read_pointer(TASK)
    return pointer.version if pointer else None
