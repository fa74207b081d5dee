"""Many episodes: the same result whatever the number of workers, after a kill, and when workers die."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count, islice
from pathlib import Path

import psutil
import pytest
import toy_world as toy

from psi0.errors import Psi0Error
from psi0.evaluate.pool import Pool
from psi0.evaluate.rollout import Pace
from psi0.evaluate.runner import ArmRun, choose_to_film, run_arms
from psi0.evaluate.schemas import Row
from psi0.evaluate.sequential import SequentialTest, decide
from psi0.evaluate.store import Store
from psi0.evaluate.worker import Arm, Setup

TEST = SequentialTest(0.3, 0.7, 0.05, 0.1, 30)
SEEDS = range(700_000, 700_060)


class Silent:
    def update(self, arms: object) -> None:
        pass


def setup(*arms: Arm, make_world: Callable[[], object] = toy.make_toy_world) -> Setup:
    return Setup(make_world, toy.UnsettledError, 8, 8, 10, arms)  # type: ignore[arg-type]


def arm(name: str, make_policy: Callable[..., object], control: str = "none") -> Arm:
    return Arm(name, make_policy, Pace(4, 1), control)  # type: ignore[arg-type]


def arm_run(name: str, file: Path | None = None, limit: int = 30, videos: int = 0, early: bool = True) -> ArmRun:
    done = (lambda outcomes: decide(TEST, outcomes).finished) if early else (lambda outcomes: False)
    return ArmRun(name, iter(SEEDS), limit, done, Store(file, "toy"), videos)


def run(runs: list[ArmRun], made: Setup, workers: int, patience_s: float = 60.0) -> None:
    with Pool(made, workers, patience_s) as pool:
        run_arms(runs, pool, Silent())


def rows(result: ArmRun) -> list[Row]:
    return [episode.row for episode in result.episodes]


def test_the_number_of_workers_never_changes_the_result() -> None:
    made = setup(
        arm("policy", toy.make_careless), arm("blind", toy.make_careless, "blind"), make_world=toy.make_patchy_world
    )
    results = []
    for workers in (1, 3):
        runs = [arm_run("policy", videos=4), arm_run("blind", limit=10, early=False)]
        run(runs, made, workers)
        results.append([(rows(r), r.invalid_seeds, r.films, r.differing_seeds) for r in runs])
    assert results[0] == results[1]
    (policy, invalid, films, differing), (blind, *_) = results[0]
    assert len(policy) == decide(TEST, [row.success for row in policy]).episodes < 30
    assert invalid == [seed for seed in range(700_000, policy[-1].seed) if seed % 5 == 0]
    assert [row.seed for row in blind] == [seed for seed in SEEDS if seed % 5][:10]
    assert len(films) == 4 and all(film[4:8] == b"ftyp" for film in films.values()) and not differing


def test_finished_episodes_are_kept_and_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "policy.jsonl"
    made = setup(arm("policy", toy.make_careless), make_world=toy.make_patchy_world)
    first = arm_run("policy", file)
    run([first], made, 2)
    again = arm_run("policy", file)
    run([again], setup(arm("policy", toy.make_careless), make_world=toy.make_broken_world), 1)
    assert rows(again) == rows(first) and again.invalid_seeds == first.invalid_seeds
    assert [e.scene for e in again.episodes] == [e.scene for e in first.episodes]


def test_kept_episodes_of_other_code_and_cut_off_lines_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "policy.jsonl"
    run([arm_run("policy", file)], setup(arm("policy", toy.make_careless)), 1)
    kept = Store(file, "toy").episodes
    file.write_bytes(file.read_bytes()[:-40])
    assert len(Store(file, "toy").episodes) == len(kept) - 1
    assert not Store(file, "other code").episodes


def test_an_evaluation_killed_in_the_middle_goes_on(tmp_path: Path, in_repository: None) -> None:
    file = tmp_path / "policy.jsonl"
    code = (
        "import sys; sys.path.insert(0, 'tests/model')\n"
        "import test_evaluation_runner as t, toy_world as toy, time\n"
        "class Slow(t.Store):\n"
        "    def add(self, *a):\n"
        "        super().add(*a); time.sleep(0.05)\n"
        "if __name__ == '__main__':\n"
        "    run = t.arm_run('policy', limit=50, early=False)\n"
        f"    run.store = Slow(t.Path({str(file)!r}), 'toy')\n"
        "    t.run([run], t.setup(t.arm('policy', toy.make_careless)), 2)\n"
    )
    script = tmp_path / "evaluate_slowly.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": "."})
    while len(file.read_text().splitlines() if file.exists() else []) < 8:
        assert process.poll() is None
        time.sleep(0.02)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert workers and not psutil.wait_procs(workers, timeout=20)[1], "workers end with what started them"
    kept = Store(file, "toy").episodes
    assert 7 <= len(kept) < 50
    resumed, whole = arm_run("policy", file, early=False, limit=12), arm_run("policy", early=False, limit=12)
    run([resumed], setup(arm("policy", toy.make_careless)), 1)
    run([whole], setup(arm("policy", toy.make_careless)), 1)
    assert rows(resumed) == rows(whole)


def test_a_worker_that_dies_is_replaced_and_its_seed_repeated(tmp_path: Path) -> None:
    result, whole = arm_run("policy"), arm_run("policy")
    run([result], setup(arm("policy", toy.MakeDying(tmp_path, 2))), 1)
    run([whole], setup(arm("policy", toy.make_seeing)), 1)
    assert len(list(tmp_path.iterdir())) == 2
    assert rows(result) == rows(whole)


def test_a_seed_that_always_kills_its_worker_counts_as_a_failure(tmp_path: Path) -> None:
    deaths, kept = tmp_path / "deaths", tmp_path / "policy.jsonl"
    deaths.mkdir()
    result = arm_run("policy", kept, limit=2, early=False)
    run([result], setup(arm("policy", toy.MakeDying(deaths, 3))), 1)
    assert [row.tag for row in rows(result)] == ["harness_error", "success"]
    assert "died" in result.episodes[0].detail
    assert list(Store(kept, "toy").episodes) == [700_001], "a fault of the harness is tried again next time"


def test_a_worker_that_hangs_is_ended() -> None:
    result = arm_run("policy", limit=1, early=False)
    run([result], setup(arm("policy", toy.make_hanging)), 1, patience_s=2.0)
    assert rows(result)[0].tag == "harness_error" and "no answer" in result.episodes[0].detail


def test_a_policy_that_raises_fails_every_episode_without_retries() -> None:
    result = arm_run("policy")
    run([result], setup(arm("policy", toy.make_raising)), 2)
    assert {row.tag for row in rows(result)} == {"policy_error"}
    assert decide(TEST, [row.success for row in rows(result)]).decision == "reject"


def test_a_world_that_cannot_be_built_stops_the_evaluation() -> None:
    with pytest.raises(Psi0Error, match="no display"):
        run([arm_run("policy")], setup(arm("policy", toy.make_seeing), make_world=toy.make_broken_world), 1)


def test_a_range_with_scenes_that_do_not_settle_ends_with_fewer_episodes() -> None:
    result = arm_run("policy", limit=60, early=False)
    run([result], setup(arm("policy", toy.make_seeing), make_world=toy.make_patchy_world), 2)
    assert len(rows(result)) == 48 and len(result.invalid_seeds) == 12


def test_films_show_failures_and_successes() -> None:
    def row(seed: int, success: bool) -> Row:
        return Row(seed=seed, success=success, tag="x", steps=1, qpos_sha256="", pixels_sha256="")

    mixed = [row(n, n % 3 != 0) for n in range(12)]
    assert choose_to_film(mixed, 4) == [0, 1, 2, 3]
    assert choose_to_film([row(n, True) for n in range(9)], 4) == [0, 1, 2, 3]
    assert choose_to_film([row(n, False) for n in range(9)], 4) == [0, 1, 2, 3]
    assert choose_to_film([row(0, True), *(row(n, False) for n in range(1, 9))], 4) == [0, 1, 2, 3]
    assert choose_to_film(list(islice((row(n, n > 6) for n in count()), 12)), 4) == [0, 1, 7, 8]
    assert choose_to_film(mixed, 0) == []
    assert choose_to_film(mixed, 4, every_failure=True) == [0, 1, 2, 3, 6, 9]
    assert choose_to_film([row(n, n > 2) for n in range(9)], 4, every_failure=True) == [0, 1, 2, 3, 4]
    assert len(choose_to_film([row(n, False) for n in range(50)], 4, every_failure=True)) == 20
    assert choose_to_film(mixed, 0, every_failure=True) == []
