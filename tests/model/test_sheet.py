"""The contact sheet: what a policy sees under every control, a new one included, in pictures of the camera's shape."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from psi0.errors import Psi0Error
from psi0.evaluate import worker
from psi0.evaluate.controls import Eyes, make_eyes
from psi0.evaluate.rollout import World
from psi0.params import Params, parse_params
from psi0.sim.world import InvalidSeed
from psi0.sim.world import World as SimulatedWorld
from psi0.watch import sheet as sheets
from psi0.watch.sheet import first_sight, sheet


@pytest.fixture
def params() -> Params:
    return parse_params({"camera": {"width": 72, "height": 40}}, "test")


class UpsideDown(Eyes):
    """A control that is not there yet."""

    def image(self, world: World) -> np.ndarray:
        return world.head_camera()[::-1]


def with_one_more(control: str, *arguments: object) -> Eyes:
    return UpsideDown() if control == "upside_down" else make_eyes(control, *arguments)  # type: ignore[arg-type]


def test_what_is_seen_first_is_what_the_evaluation_shows(
    params: Params, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "make_eyes", with_one_more)
    seen = {name: first_sight(params, "pick_can", name, 7) for name in ("none", "blind", "upside_down", "deaf")}
    assert isinstance(seen["deaf"], str) and "control 'deaf' does not exist" in seen["deaf"]
    pictures = {name: sight.head_camera for name, sight in seen.items() if not isinstance(sight, str)}
    assert pictures["none"].shape == (40, 72, 3) and (pictures["blind"] == 128).all()
    np.testing.assert_array_equal(pictures["upside_down"], pictures["none"][::-1])


def test_a_control_that_is_added_is_one_more_row(params: Params, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    look: Callable[..., object] = sheets.first_sight

    def looking(shown: Params, task: str, control: str, seed: int) -> object:
        asked.append((shown.evaluation.level, control))
        assert shown.camera.width / shown.camera.height == pytest.approx(72 / 40, rel=0.02)
        return look(shown, task, control, seed)

    monkeypatch.setattr(worker, "make_eyes", with_one_more)
    monkeypatch.setattr(sheets, "first_sight", looking)
    monkeypatch.setattr(sheets, "strip", lambda *_: np.zeros((30, 400, 3), np.uint8))
    sizes = {}
    for controls in (("none", "blind"), ("none", "blind", "upside_down")):
        monkeypatch.setattr(sheets, "CONTROLS", controls)
        sheet(7, params, here / "sheets" / "tasks.png", ["pick_can"])
        sizes[controls] = Image.open(here / "sheets" / "tasks.png").size
    assert asked[-5:] == [("L0", "none"), ("L1", "none"), ("L2", "none"), ("L1", "blind"), ("L1", "upside_down")]
    (few, more) = sizes.values()
    assert few[0] == more[0] == 400 and more[1] - few[1] > 70


def test_a_seed_that_does_not_settle_is_named(params: Params, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsettled(self: SimulatedWorld, seed: int) -> None:
        raise InvalidSeed("the can does not stand")

    monkeypatch.setattr(SimulatedWorld, "reset", unsettled)
    with pytest.raises(Psi0Error, match="pick_can, control none, seed 7: the can does not stand; take another --seed"):
        first_sight(params, "pick_can", "none", 7)
