"""The gate's own error rates, and the page that states them."""

import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml
from scipy.stats import binom, binomtest

from psi0.evaluate.calibration import Calibration, calibrate, find_rival, success_rates
from psi0.evaluate.calibration_text import describe, failures
from psi0.evaluate.schemas import read_record
from psi0.params import Params, parse_params

DOCUMENT = Path("docs/gate.md")


@pytest.fixture(scope="module")
def found() -> Calibration:
    return calibrate(Params(), "pick_can", 10_000)


def test_the_registered_plan_keeps_its_promises(found: Calibration) -> None:
    assert not failures(found)
    rates = {rate.success_rate: rate for rate in found.rates}
    assert rates[0.75].promoted <= 0.05 + rates[0.75].error and rates[0.75].exact <= 0.05
    assert rates[0.92].promoted >= 0.90 and rates[0.92].exact >= 0.90
    assert sorted(rates) == list(rates) and len(rates) == 8, "below p0, between, and above p1, too"
    assert [rate.promoted for rate in found.rates] == sorted(rate.promoted for rate in found.rates)


def test_it_is_cheaper_than_the_fixed_test_of_equal_power(found: Calibration) -> None:
    rival = found.rival
    assert rival is not None and rival.power >= next(r.exact for r in found.rates if r.success_rate == 0.92)
    assert all(rate.mean_episodes < rival.episodes for rate in found.rates)
    # By hand: the fewest successes that are significant, and what they give at p1.
    assert binomtest(rival.successes_needed, rival.episodes, 0.75, alternative="greater").pvalue <= 0.05
    assert binomtest(rival.successes_needed - 1, rival.episodes, 0.75, alternative="greater").pvalue > 0.05
    assert rival.power == pytest.approx(binom.sf(rival.successes_needed - 1, rival.episodes, 0.92))
    for shorter in range(1, rival.episodes):
        needed = next(k for k in range(shorter + 2) if binom.sf(k - 1, shorter, 0.75) <= 0.05)
        assert binom.sf(needed - 1, shorter, 0.92) < next(r.exact for r in found.rates if r.success_rate == 0.92)


def test_many_candidates_make_a_false_promotion_likely(found: Calibration) -> None:
    one, five, twenty = found.attempts
    assert (one.candidates, five.candidates, twenty.candidates) == (1, 5, 20)
    for attempts in found.attempts:
        assert attempts.promoted == pytest.approx(attempts.exact, abs=attempts.error)
    assert five.exact > 0.2 and twenty.exact > 0.6


def test_a_plan_that_cannot_keep_its_promises_says_so() -> None:
    short = calibrate(parse_params({"gate": {"n_max": 20}}, "test"), "pick_can", 2000)
    assert any("power at p1, exact" in failure for failure in failures(short))
    assert "FAILED: power at p1" in describe(short)
    assert not any("false promotion" in failure for failure in failures(short)), "truncation promotes less, not more"


def test_a_fixed_plan_is_measured_too() -> None:
    fixed = calibrate(parse_params({"gate": {"fixed_n": 45, "control_ceilings": {}}}, "test"), "pick_can", 2000)
    assert fixed.test == "fixed" and fixed.rival is None and not failures(fixed) and not fixed.controls
    assert {rate.mean_episodes for rate in fixed.rates} == {45}
    assert "exact binomial test of p <= 0.75 on 45 episodes" in describe(fixed)


def test_close_rates_have_no_rival_that_a_person_would_run() -> None:
    assert find_rival(0.75, 0.755, 0.05, 0.9) is None
    assert success_rates(0.15, 0.3)[0] == pytest.approx(0.05), "rates below 0 are left out"


def test_the_document_states_what_the_command_prints(found: Calibration, in_repository: None) -> None:
    """`psi0 gate calibrate --task pick_can` made the tables of docs/gate.md; they say so, and still are."""
    document = DOCUMENT.read_text()
    for line in describe(found).splitlines():
        assert line in document, f"{DOCUMENT} is out of date: run psi0 gate calibrate --task pick_can"


def test_the_command_leaves_numbers_and_a_drawing_and_fails_for_a_weak_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["psi0", "gate", "calibrate", "--runs", "500", "--out", "there"]
    Path("params.yaml").write_text(yaml.safe_dump({"gate": {"n_max": 20}}))
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 1 and "raise gate.n_max" in answer.stderr and "Traceback" not in answer.stderr
    written = read_record(Calibration, Path("there/pick_can/calibration.json"))
    assert written.runs == 500 and written.n_max == 20
    drawing = Path("there/pick_can/calibration.svg").read_text()
    words = " ".join(ElementTree.fromstring(drawing).itertext())
    assert "at least one falsely promoted" in words and "success rate of the policy" in words
    assert "<image" not in drawing and "<script" not in drawing and "url(http" not in drawing
    answer = subprocess.run([*command, "--task", "pick_cat"], capture_output=True, text=True)
    assert answer.returncode == 1 and "has no task 'pick_cat'; it has: pick_can" in answer.stderr
