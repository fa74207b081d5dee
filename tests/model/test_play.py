"""One episode to watch: whatever acts, it plays as it is evaluated and leaves a film; nonsense is refused at once."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from psi0.errors import Psi0Error
from psi0.evaluate.baselines import Zero
from psi0.model.torch_policy import TorchPolicy
from psi0.params import Params, parse_params
from psi0.policy import Observation
from psi0.sim.tasks.pick_can import PickCan
from psi0.sim.world import InvalidSeed, World, standing_command
from psi0.watch import play as playing
from psi0.watch.play import play

STEPS = 5


@pytest.fixture
def params() -> Params:
    return parse_params({"camera": {"width": 72, "height": 40}}, "test")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes of half a second."""
    monkeypatch.setattr(PickCan, "seconds", STEPS / 10)


def frames(film: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(film)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("kind", ["demonstrator", "script", "zero", "frozen", "replay"])
def test_whatever_acts_leaves_a_film_of_every_step(kind: str, params: Params, short: None, here: Path) -> None:
    recording = here / "actions.json"
    recording.write_text(json.dumps([standing_command().tolist()] * 3))
    name = f"replay:{recording}" if kind == "replay" else kind
    played = play(params, "pick_can", 7, name, here / "films" / "episode.mp4")
    assert (played.success, played.tag, played.steps) == (False, "not_reached", STEPS)
    pictures = frames(played.video)
    assert len(pictures) == STEPS and pictures[0].shape == (288, 768, 3)
    seen = pictures[0][:, :384]
    assert seen[:30].max() < 40 and seen[-30:].max() < 40, "a wide picture keeps its shape between black bars"
    assert seen[100:180].mean() > 60


def test_the_demonstrator_is_seen_to_succeed(params: Params, here: Path) -> None:
    played = play(params, "pick_can", 600000, "demonstrator", here / "episode.mp4", level="L0")
    assert played.success and played.tag == "success" and len(frames(played.video)) == played.steps


def test_a_trained_policy_plays_with_the_delay_of_its_evaluation(
    params: Params, short: None, here: Path, policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    act = TorchPolicy.act

    def recording_act(self: TorchPolicy, observation: Observation) -> NDArray[np.float32]:
        asked.append((observation.step, observation.delay))
        return act(self, observation)

    monkeypatch.setattr(TorchPolicy, "act", recording_act)
    played = play(params, "pick_can", 7, str(policy_folder), here / "episode.mp4")
    assert asked[0] == (0, 2), "160 ms are two steps at 10 Hz"
    assert len(frames(played.video)) >= played.steps >= 2, "random weights may ask for what no robot can do"


def test_a_control_is_what_the_film_shows_on_the_left(params: Params, short: None, here: Path) -> None:
    played = play(params, "pick_can", 7, "zero", here / "episode.mp4", control="blind")
    assert np.abs(frames(played.video)[-1][100:180, 20:360].astype(int) - 128).max() < 8


def test_a_policy_that_raises_at_once_leaves_one_picture_and_says_why(
    params: Params, short: None, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising(self: Zero, observation: Observation) -> NDArray[np.float32]:
        raise ArithmeticError("no answer")

    monkeypatch.setattr(Zero, "act", raising)
    played = play(params, "pick_can", 7, "zero", here / "episode.mp4")
    assert played.tag == "policy_error" and "ArithmeticError: no answer" in played.detail
    assert len(frames(played.video)) == 1


def test_a_seed_whose_scene_does_not_settle_is_named(
    params: Params, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsettled(self: World, seed: int) -> None:
        raise InvalidSeed("the can does not stand")

    monkeypatch.setattr(World, "reset", unsettled)
    with pytest.raises(Psi0Error, match="seed 7 is invalid: the can does not stand; take another --seed"):
        play(params, "pick_can", 7, "zero", here / "episode.mp4")
    assert not (here / "episode.mp4").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "pick_cn"}, "did you mean 'pick_can'"),
        ({"policy": "nobody"}, "nobody is no policy: name demonstrator.*; or keyboard"),
        ({"policy": "replay:nothing.json"}, "nothing.json does not exist"),
        ({"policy": "models:/psi0-pick_can@champion"}, "registry is not at hand"),
        ({"level": "L7"}, "levels: L0, L1, L2"),
        ({"control": "deaf"}, "controls: none, blind"),
        ({"video": Path()}, "is a folder; name a file"),
        ({"view": True}, "--view: no display here.*leave --view out"),
    ],
)
def test_what_cannot_be_played_is_refused_before_any_work(
    arguments: dict[str, object], message: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(playing, "simulator_setup", lambda *_: pytest.fail("a world was made"))
    asked: dict[str, object] = {"task": "pick_can", "seed": 7, "policy": "zero", "video": Path("episode.mp4")}
    with pytest.raises(Psi0Error, match=message):
        play(Params(), **(asked | arguments))  # type: ignore[arg-type]


def test_a_display_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", "127.0.0.1:971")
    with pytest.raises(Psi0Error, match=r"display '127\.0\.0\.1:971' cannot be opened"):
        play(Params(), "pick_can", 7, "zero", Path("episode.mp4"), view=True)
