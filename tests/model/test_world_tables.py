"""The pieces of the tables in docs/world.md: what System-0 does, the changed simulator, what episodes add up to."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "benchmarks")]

from benchmarks import sim  # noqa: E402
from benchmarks.world import arms, changes, sensitivity, system0  # noqa: E402
from benchmarks.world.episodes import Tally, count, run  # noqa: E402
from benchmarks.world.floor import Floor, Track, command  # noqa: E402
from psi0.evaluate.baselines import read_actions  # noqa: E402
from psi0.evaluate.schemas import Row  # noqa: E402
from psi0.params import Camera, Control, parse_params  # noqa: E402
from psi0.robot.layout import LOWER_BODY_COMMANDS  # noqa: E402


@pytest.fixture(scope="module")
def floor(robot_folder: Path) -> Floor:
    return Floor(robot_folder)


def row(seed: int, tag: str) -> Row:
    return Row(seed=seed, success=tag == "success", tag=tag, steps=20, qpos_sha256="", pixels_sha256="")


def test_a_command_stands_but_for_what_it_names() -> None:
    asked = dict(zip(LOWER_BODY_COMMANDS, command(velocity_x=0.3), strict=True))
    assert asked.pop("velocity_x") == 0.3 and asked.pop("height") == 0.756
    assert not any(asked.values())


def test_velocities_are_those_along_the_heading() -> None:
    ticks = np.arange(101) / 50
    yaw = np.pi / 2 + 0.0 * ticks
    sideways = np.stack([-0.3 * ticks, 0.2 * ticks, 0.7 + 0 * ticks], axis=1)
    track = Track(sideways, yaw, np.zeros((101, 3)), fell=False, begun=0.0)
    assert track.velocity(1.0) == pytest.approx([0.2, 0.3, 0.0])
    assert track.drift == pytest.approx((np.hypot(0.6, 0.4), 0.0))
    turning = Track(sideways, 0.5 * ticks, np.zeros((101, 3)), fell=False, begun=0.0)
    assert turning.velocity(0.0)[2] == pytest.approx(0.5)


def test_the_robot_on_the_floor_walks_stands_leans_and_falls(floor: Floor) -> None:
    ahead = system0.tracks(floor, {"velocity_x": 0.5}, 1, 5.0)[0]
    assert ahead.velocity(2.0)[0] > 0.35 and not ahead.fell and ahead.seconds == 5.0
    leaning = {"torso_pitch": 0.2}
    assert system0.posture(system0.tracks(floor, leaning, 1, 2.0)[0], leaning) > 0.1
    floor.stand(0)
    thrown = floor.run(command(), 3.0, system0.pushed(0.0, 3000.0))
    assert thrown.fell and thrown.seconds < 3.0


def test_the_same_start_gives_the_same_track(floor: Floor) -> None:
    found = []
    for seed in (3, 4, 3):
        floor.stand(seed, reaching=True)
        found.append(floor.run(command(velocity_yaw=0.3), 1.0).position)
    assert np.array_equal(found[0], found[2]) and not np.array_equal(found[0], found[1])


def test_the_rows_of_system0s_table(floor: Floor) -> None:
    still = Track(np.tile([0.0, 0.0, 0.75], (200, 1)), np.zeros(200), np.full((200, 3), 0.2), False, begun=0.0)
    down = Track(still.position, still.yaw, still.torso, True, begun=0.0)
    assert system0.velocity_row({"velocity_x": 0.4}, [still, down]).endswith("| +0.00 | +0.00 | +0.00 | 1 of 2 |")
    assert system0.velocity_row({"velocity_x": 0.4}, [down]).endswith("|  |  |  | 1 of 1 |")
    assert system0.posture_row({"torso_yaw": 0.5}, [still]) == "| torso_yaw 0.5 | +0.20 | 0.00 | 0 of 1 |"
    assert system0.posture_row({"height": 0.7}, [still]).startswith("| height 0.7 | +0.75 |")
    assert system0.heading_row({"target_yaw": 0.1}, [still, down]) == "| target_yaw 0.1 | +0.00 | 0.10 | 1 of 2 |"
    round_the_back = replace(still, yaw=np.full(200, 3.1), begun=-3.1)
    assert round_the_back.turned == pytest.approx(np.full(200, 6.2 - 2 * np.pi))
    assert system0.span([0.1, 0.3]) == "+0.20 (+0.10 to +0.30)"
    assert system0.walk_about(floor, 4 / 3600).startswith("| 0.00 h | 0 | 0.0 per hour |")
    assert system0.push_row(floor, 2, 5000.0, 0.0).startswith("| 5000 N, standing | 0 of 2 |")


def test_the_interval_of_a_rate_is_exact() -> None:
    assert system0.rate_interval(0, 1.0) == pytest.approx((0.0, 3.689), abs=1e-3)
    assert system0.rate_interval(10, 2.0) == pytest.approx((2.398, 9.195), abs=1e-3)


def test_episodes_add_up_to_a_row_with_its_interval() -> None:
    tally = count([row(1, "success"), row(2, "fell"), row(3, "fell"), row(4, "dropped")], policy_hz=10, invalid=1)
    assert tally == Tally(4, 1, {"fell": 2, "dropped": 1}, 2.0, 1)
    assert tally.rate == "1 of 4 | 0.05 to 0.70"
    assert arms.line("push_cart", "script", tally).startswith(
        "| `push_cart` | script | 1 of 4 | 0.05 to 0.70 | 2.0 s |"
    )
    assert sensitivity.line("push_cart", "half mass", tally).endswith("| 2.0 s | fell 2, dropped 1 |")
    assert tally.failures == "fell 2, dropped 1" and count([row(1, "success")], 10).failures == "none"


@pytest.mark.parametrize("name", [name for name in changes.NAMES if name != changes.FINE_STEPS])
def test_a_change_changes_one_thing(name: str, robot_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psi0.paths.ROBOT", robot_folder)

    def described(change: str) -> dict[str, float]:
        model = changes.changed_world(change, "pick_can", Control(), Camera(), "L0").model
        palm = next(g for g in range(model.ngeom) if "_hand_" in model.body(model.geom_bodyid[g]).name)
        return {
            "no self-collision": float((model.geom_contype > 0).sum()),
            "friction 0.7": float(model.geom_friction[model.geom("can").id, 0] + model.geom_friction[palm, 0]),
            "arm gains of the robot": float(model.actuator("left_elbow_joint").gainprm[0]),
            "mass": float(model.body("can").mass[0]),
        }

    before, after = described(changes.AS_BUILT), described(name)
    changed = {key for key in before if before[key] != after[key]}
    assert changed == ({"mass"} if name.endswith(" mass") else {name} - {changes.AS_BUILT})
    if name == "double mass":
        assert after["mass"] == pytest.approx(2 * before["mass"])


def test_a_recorded_demonstration_can_be_replayed(here: Path) -> None:
    actions = read_actions(str(arms.record(parse_params({}, "test"), "pick_can", "L1")))
    assert 30 < len(actions) < 200 and actions.shape[1] == 36 and np.ptp(actions, axis=0).max() > 0.5


def test_a_watch_adds_up_processor_time() -> None:
    watch, long = sim.Watch(), partial(sum, range(1_000_000))
    assert sim.rate(3, partial(sum, range(1000))) > sim.rate(3, long) > 0
    with watch:
        long()
    once = watch.seconds
    with watch:
        long()
    assert watch.seconds > once > 0


def test_arms_run_in_the_changed_world_on_a_worker_of_their_own(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    params = parse_params({"camera": {"width": 64, "height": 48}}, "test")
    tallies = run(params, "pick_can", {"demonstrator": ("demonstrator", 1)}, "L1", changes.FINE_STEPS)
    assert tallies["demonstrator"].episodes == 1 and tallies["demonstrator"].successes == 1
