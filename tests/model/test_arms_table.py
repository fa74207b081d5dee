"""The table of baselines: the same fresh seeds for all, one file per arm, what is missing is said."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_world as toy
from learnable import HEIGHT, WIDTH

from psi0 import paths
from psi0.baselines.config import BaselineConfig, Kind
from psi0.baselines.folder import Baseline, save_baseline
from psi0.baselines.networks import make_network
from psi0.errors import Psi0Error
from psi0.evaluate.arms_table import ARMS, fill_table
from psi0.evaluate.evaluation import Arrangement, pace
from psi0.evaluate.intervals import wilson
from psi0.evaluate.plan import EVALUATION_SEEDS_START
from psi0.evaluate.schemas import Evaluation, read_record
from psi0.evaluate.worker import Arm, Setup
from psi0.lineage import Lineage
from psi0.model.normalizer import Normalizer, Scale
from psi0.model.policy_config import Layout
from psi0.params import Baselines, Params, parse_params
from psi0.settings import settings

TASK, RESULTS = "pick_can", Path("results")
PARAMS = parse_params({"evaluation": {"workers": 1}}, "test")
ACTORS = {"script": toy.make_wrong, "bc": toy.make_careless, "policy": toy.make_seeing}


def write_baseline(folder: Path, kind: Kind, seed: int = 0) -> None:
    """An untrained network's folder."""
    sizes = Baselines(hidden_size=16, heads=2, encoder_layers=1, decoder_layers=1, feed_forward=16)
    config = BaselineConfig(
        kind=kind,
        task=TASK,
        policy_hz=10,
        horizon=toy.CHUNK,
        camera_height=HEIGHT,
        camera_width=WIDTH,
        stride=1,
        settings=sizes,
    )
    normalizer = Normalizer(Scale.fit(-np.ones(32), np.ones(32)), Scale.fit(-np.ones(36), np.ones(36)))
    layout, origin = Layout(action_names=[], state_names=[]), Lineage(params_sha256="0" * 64)
    save_baseline(folder, Baseline(config, make_network(config, seed).state_dict(), normalizer, layout, origin))


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with one baseline, and something that stands for the policy."""
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    write_baseline(paths.baseline(TASK, "bc"), "bc")
    write_baseline(Path("champion"), "act", seed=1)
    yield tmp_path
    settings.cache_clear()


def toy_setup(run: Arrangement, make_world: Any = toy.make_patchy_world) -> Setup:
    """The toy world, with actors whose success rates are known in place of untrained networks."""
    return Setup(make_world, toy.UnsettledError, 8, 8, 10, (Arm(run.name, ACTORS[run.name], pace(PARAMS, run.spec)),))


def fill(episodes: int = 8, params: Params = PARAMS, setup: Any = toy_setup, **changes: Any) -> str:
    return fill_table(params, TASK, episodes, RESULTS, **{"policy": "champion", **changes}, setup=setup)


def rows_of(table: str) -> dict[str, list[str]]:
    """Cells of the table by the name of the arm."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    return {cells[0]: cells[1:] for cells in lines[2:]}


def measured(arm: str) -> Evaluation:
    return read_record(Evaluation, RESULTS / TASK / f"{arm}.json")


def test_all_arms_meet_the_same_fresh_seeds_and_missing_ones_are_shown() -> None:
    table = fill()
    assert (RESULTS / f"{TASK}.md").read_text() == table
    rows = rows_of(table)
    assert len(rows) == len(ARMS)
    seeds = {arm: [row.seed for row in measured(arm).rows] for arm in ACTORS}
    assert seeds["script"] == seeds["bc"] == seeds["policy"] and len(set(seeds["bc"])) == 8
    assert min(seeds["bc"]) >= EVALUATION_SEEDS_START and not any(seed % 5 == 0 for seed in seeds["bc"])
    assert rows["the policy"][0] == "8 of 8" and rows["script"][0] == "0 of 8"
    assert rows["script"][2] == "0, 8 (p 0.008)" and rows["script"][4] == "not_reached 8"
    bc = measured("bc")
    interval = wilson(bc.summary.successes, 8, descriptive=False)
    assert rows["behaviour cloning"][:2] == [
        f"{bc.summary.successes} of 8",
        f"{interval.low:.2f} to {interval.high:.2f}",
    ]
    assert bc.policy == "bc" and bc.delay_steps == 2 and bc.scenes == {} and measured("script").delay_steps == 0
    assert rows["ACT"][0] == "missing"
    assert "models/baselines/pick_can/act does not exist; `psi0 baseline train act --task pick_can`" in rows["ACT"][4]


def test_what_was_run_is_not_run_again_and_more_episodes_go_on() -> None:
    fill(wanted=["bc"])
    before = measured("bc")

    def broken(run: Arrangement) -> Setup:
        return toy_setup(run, toy.make_broken_world)

    fill(wanted=["bc"], setup=broken)
    assert measured("bc") == before
    with pytest.raises(Psi0Error, match="evaluation cannot run"):
        fill(episodes=9, wanted=["bc"], setup=broken)
    fill(episodes=9, wanted=["bc"])
    assert measured("bc").rows[:8] == before.rows and len(measured("bc").rows) == 9


def test_each_arm_is_written_as_it_ends() -> None:
    def broken_policy(run: Arrangement) -> Setup:
        return toy_setup(run, toy.make_broken_world if run.name == "policy" else toy.make_toy_world)

    with pytest.raises(Psi0Error, match="evaluation cannot run"):
        fill(setup=broken_policy)
    rows = rows_of((RESULTS / f"{TASK}.md").read_text())
    assert rows["behaviour cloning"][0].endswith("of 8") and rows["the policy"][0] == "missing"


def test_showing_runs_nothing_and_another_plan_is_no_evidence() -> None:
    table = fill()
    assert (
        fill(wanted=[], setup=None) != "" and rows_of(fill(wanted=[], setup=None))["script"] == rows_of(table)["script"]
    )
    other = parse_params({"evaluation": {"workers": 1, "inference_delay_ms": 200}}, "test")
    rows = rows_of(fill(params=other, wanted=[], setup=None))
    assert {cells[0] for cells in rows.values()} == {"missing"}
    assert "bc.json was made under another plan" in rows["behaviour cloning"][4]


def test_a_broken_folder_is_a_missing_arm() -> None:
    (paths.baseline(TASK, "bc") / "normalizer.json").write_text("{}")
    (RESULTS / TASK).mkdir(parents=True)
    (RESULTS / TASK / "act.json").write_text('{"schema_version": 9}')
    rows = rows_of(fill(wanted=["bc"]))
    assert (
        rows["behaviour cloning"][0] == "missing" and "was changed after it was written" in rows["behaviour cloning"][4]
    )
    assert rows["ACT"][0] == "missing" and "schema_version 9 is unknown" in rows["ACT"][4]


def test_an_arm_or_task_that_does_not_exist_is_named() -> None:
    with pytest.raises(Psi0Error, match="arm 'dagger' does not exist; arms: script, nearest"):
        fill(wanted=["dagger"])
    with pytest.raises(Psi0Error, match="did you mean 'pick_can'"):
        fill_table(PARAMS, "pick_cann", 1, RESULTS)
