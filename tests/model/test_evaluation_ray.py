"""Episodes as Ray tasks: the same rows as processes of this machine give, also when workers die or hang."""

from collections.abc import Callable
from pathlib import Path

import pytest
import toy_world as toy
from test_evaluation_runner import Silent, arm, arm_run, rows, run, setup

from psi0.errors import Psi0Error
from psi0.evaluate.evaluation import Arrangement, evaluate
from psi0.evaluate.ray_pool import RayPool
from psi0.evaluate.resolve import resolve
from psi0.evaluate.runner import ArmRun, run_arms
from psi0.evaluate.schemas import Row
from psi0.evaluate.worker import Setup
from psi0.params import parse_params
from psi0.settings import settings


@pytest.fixture
def ray_finds_this_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of the embedded Ray can import what these tests pickle by name."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def run_on_ray(runs: list[ArmRun], made: Setup, workers: int, patience_s: float = 60.0) -> None:
    with RayPool(made, workers, patience_s) as pool:
        run_arms(runs, pool, Silent())


@pytest.mark.usefixtures("ray_finds_this_folder")
def test_a_worker_that_dies_is_replaced_and_the_rows_are_those_of_processes(tmp_path: Path) -> None:
    on_ray, here = arm_run("policy", videos=2), arm_run("policy", videos=2)
    run_on_ray([on_ray], setup(arm("policy", toy.MakeDying(tmp_path, 2))), 2)
    run([here], setup(arm("policy", toy.make_seeing)), 1)
    assert len(list(tmp_path.iterdir())) == 2
    assert rows(on_ray) == rows(here) and on_ray.films == here.films


@pytest.mark.usefixtures("here")
def test_the_simulator_plays_the_same_episodes_on_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    params = parse_params({"camera": {"width": 64, "height": 48}, "evaluation": {"level": "L1"}}, "test")
    seeds = (700_000, 700_001)

    def found() -> list[Row]:
        settings.cache_clear()
        arrangement = Arrangement("policy", resolve("frozen", params.control.chunk), "none", len(seeds), seeds=seeds)
        return evaluate(params, "pick_can", [arrangement], videos=0, keep=False)["policy"].evaluation.rows

    here = found()
    monkeypatch.setenv("PSI0_EVALUATE_ON", "ray")
    on_ray = found()
    assert on_ray == here and len({row.pixels_sha256 for row in here}) == len(seeds)
    monkeypatch.undo()
    settings.cache_clear()


def test_a_cluster_that_does_not_answer_is_named(use_address: Callable[[str], None]) -> None:
    use_address("127.0.0.1:9")
    with pytest.raises(Psi0Error, match=r"PSI0_RAY_ADDRESS 127\.0\.0\.1:9"):
        RayPool(setup(arm("policy", toy.make_seeing)), 1)


@pytest.fixture
def use_address(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Name a cluster in the settings of one test."""

    def use(address: str) -> None:
        monkeypatch.setenv("PSI0_RAY_ADDRESS", address)
        settings.cache_clear()

    yield use
    monkeypatch.undo()
    settings.cache_clear()
