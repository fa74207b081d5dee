"""One episode: latency, chunks, controls, and who is to blame for what."""

import numpy as np
import pytest
from toy_world import CHUNK, Raising, Recorder, Seeing, ToyWorld, UnsettledError, Unshaped, make_toy_world

from psi0.evaluate.controls import BlindEyes, Eyes, SwappedEyes, make_eyes, other_seed
from psi0.evaluate.rollout import Pace, run_episode
from psi0.policy import Policy


class Watched(ToyWorld):
    """Remembers the first joint of every executed action."""

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.commanded[0] = -7.0
        self.executed: list[float] = []

    def step(self, action):
        self.executed.append(float(action[0]))
        return super().step(action)


def run(pace: Pace, policy: Recorder | None = None) -> tuple[Watched, Recorder]:
    world, policy = Watched(), policy or Recorder()
    run_episode(world, policy, Eyes(), 700_001, pace)
    return world, policy


def test_the_recorder_is_a_policy() -> None:
    assert isinstance(Recorder(), Policy)


def test_without_delay_each_chunk_is_executed_from_its_first_row() -> None:
    world, policy = run(Pace(execute=4, delay=0))
    assert world.executed == [100, 101, 102, 103, 200, 201, 202, 203, 300, 301]
    assert [o.step for o in policy.seen] == [0, 4, 8]
    assert policy.seen[0].previous_chunk is None
    assert policy.seen[1].previous_chunk[:, 0].tolist() == [104, 105]


def test_the_old_chunk_is_executed_while_the_new_one_is_computed() -> None:
    world, policy = run(Pace(execute=4, delay=2))
    assert world.executed == [-7, -7, 102, 103, 104, 105, 202, 203, 204, 205]
    assert [o.step for o in policy.seen] == [0, 4, 8]
    assert [o.delay for o in policy.seen] == [2, 2, 2]
    assert policy.seen[0].previous_chunk is None
    for observation in policy.seen[1:]:
        # The rows handed over are exactly those executed while the policy thinks.
        prefix = observation.previous_chunk[: observation.delay, 0].tolist()
        assert prefix == world.executed[observation.step : observation.step + 2]


def test_late_inference_holds_the_last_action_and_asks_again_when_it_arrives() -> None:
    world, policy = run(Pace(execute=2, delay=5))
    assert [o.step for o in policy.seen] == [0, 5]
    assert world.executed == [-7] * 5 + [105] * 5
    assert policy.seen[1].previous_chunk[:, 0].tolist() == [105]


def test_delay_as_long_as_the_execution_never_loses_an_answer() -> None:
    world, policy = run(Pace(execute=3, delay=3))
    assert world.executed == [-7, -7, -7, 103, 104, 105, 203, 204, 205, 303]
    assert [o.step for o in policy.seen] == [0, 3, 6, 9]


def test_a_chunk_shorter_than_planned_is_asked_for_sooner() -> None:
    world, policy = run(Pace(execute=CHUNK + 3, delay=0))
    assert [o.step for o in policy.seen] == [0, 6]
    assert world.executed[:7] == [100, 101, 102, 103, 104, 105, 200]


def test_the_same_seed_gives_the_same_row() -> None:
    rows = [run_episode(ToyWorld(), Seeing(0.4), Eyes(), 700_004, Pace(4, 1)).row for _ in range(2)]
    assert rows[0] == rows[1]
    other = run_episode(ToyWorld(), Seeing(0.4), Eyes(), 700_005, Pace(4, 1)).row
    assert other.qpos_sha256 != rows[0].qpos_sha256 and other.pixels_sha256 != rows[0].pixels_sha256


def test_seeing_succeeds_and_the_scene_is_plain_json() -> None:
    episode = run_episode(ToyWorld(), Seeing(), Eyes(), 700_004, Pace(4, 1))
    assert episode.row.success and episode.row.tag == "success"
    assert isinstance(episode.scene["key_points"]["number"][1], float)


def test_blind_eyes_show_one_gray_whatever_happens() -> None:
    eyes = make_eyes("blind", 8, 8, make_toy_world, UnsettledError)
    assert isinstance(eyes, BlindEyes)
    outcomes = [run_episode(ToyWorld(), Seeing(), eyes, 700_000 + n, Pace(4, 1)).row for n in range(20)]
    assert len({row.pixels_sha256 for row in outcomes if row.steps == 10}) == 1
    assert sum(row.success for row in outcomes) < 8


def test_swapped_eyes_show_another_seed_that_moves_along() -> None:
    world, other = ToyWorld(), ToyWorld()
    eyes = SwappedEyes(other, UnsettledError)
    row = run_episode(world, Seeing(), eyes, 700_002, Pace(4, 0)).row
    expected = ToyWorld()
    expected.reset(other_seed(700_002, 0))
    assert other.goal == expected.goal != world.goal
    assert not row.success
    assert other.steps == 3, "the other world follows until its own episode ends"


def test_swapped_eyes_skip_scenes_that_do_not_settle() -> None:
    seed = next(s for s in range(700_000, 700_100) if other_seed(s, 0) % 5 == 0 and other_seed(s, 1) % 5)
    world, other = ToyWorld(), ToyWorld(invalid_every=5)
    world.reset(seed)
    SwappedEyes(other, UnsettledError).reset(seed, world)
    expected = ToyWorld()
    expected.reset(other_seed(seed, 1))
    assert other.goal == expected.goal


def test_swapped_eyes_skip_scenes_whose_object_is_where_this_one_is() -> None:
    world, other = ToyWorld(), ToyWorld()
    for seed in range(700_000, 700_040):
        world.reset(seed)
        SwappedEyes(other, UnsettledError, 0.5).reset(seed, world)
        assert abs(other.goal - world.goal) >= 0.5
    with pytest.raises(RuntimeError, match="3 m off"):
        SwappedEyes(other, UnsettledError, 3.0).reset(700_000, world)


@pytest.mark.parametrize(("policy", "tag"), [(Raising(), "policy_error"), (Unshaped(), "invalid_action")])
def test_a_fault_of_the_policy_is_a_failed_episode(policy: Policy, tag: str) -> None:
    episode = run_episode(ToyWorld(), policy, Eyes(), 700_003, Pace(4, 1))
    assert not episode.row.success and episode.row.tag == tag and episode.detail


def test_an_action_that_is_not_finite_is_a_failed_episode() -> None:
    class NotFinite(Recorder):
        def act(self, observation):
            return np.full((CHUNK, 36), np.nan, np.float32)

    episode = run_episode(ToyWorld(), NotFinite(), Eyes(), 700_003, Pace(4, 0))
    assert (episode.row.tag, episode.row.steps, episode.detail) == ("invalid_action", 0, "not finite")


def test_a_fault_of_the_world_is_raised() -> None:
    class Broken(ToyWorld):
        def step(self, action):
            raise OSError("lost the display")

    with pytest.raises(OSError, match="display"):
        run_episode(Broken(), Seeing(), Eyes(), 700_003, Pace(4, 0))
