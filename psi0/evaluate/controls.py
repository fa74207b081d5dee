"""Controls: arms that must fail, made by taking something away from what the policy sees.

A policy that succeeds without its eyes proves that the task is too easy, not that the policy is good.
"""

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from psi0.errors import Psi0Error
from psi0.evaluate.plan import EVALUATION_SEEDS_START

if TYPE_CHECKING:
    from psi0.evaluate.rollout import World

GRAY = 128
"""Value of every pixel of the blind control's image: the middle of the range, what a normaliser maps to about 0."""
OTHER_SEEDS_TRIED = 60
ATTEMPTED = "attempted"
"""Tag of an episode without its object in which the policy went through the motion all the same."""


class UnavailableControlError(Psi0Error):
    """This control makes no sense in this world: no episode of it can be run."""


class Eyes:
    """What the policy is given of the world: here, without any control, the world as it is."""

    def reset(self, seed: int, world: "World") -> None:
        """Begin the episode of a seed, to which the world was just reset."""

    def image(self, world: "World") -> NDArray[np.uint8]:
        """The image `(height, width, 3)` that stands in for the head camera's at this moment."""
        return world.head_camera()

    def instruction(self, world: "World") -> str:
        """What the policy is told to do."""
        return world.instruction

    def step(self, action: NDArray[np.float32]) -> None:
        """Told of every action that the world executed."""

    def ends(self, world: "World") -> str | None:
        """The tag with which this control ends the episode now, if it does."""
        return None


class BlindEyes(Eyes):
    """Control `blind`: a constant gray image. State and instruction are the world's own."""

    def __init__(self, height: int, width: int) -> None:
        self._image = np.full((height, width, 3), GRAY, np.uint8)

    def image(self, world: "World") -> NDArray[np.uint8]:
        """The same gray image, always."""
        return self._image


class MisledEars(Eyes):
    """Control `wrong_instruction`: the policy is told to take the other of two objects; taking it is a failure.

    A policy that succeeds does not listen.
    """

    def reset(self, seed: int, world: "World") -> None:
        """Raises `UnavailableControlError` where there is nothing to choose from."""
        if world.other_instruction == world.instruction:
            raise UnavailableControlError(
                "control wrong_instruction needs two objects to choose from: set scene.objects to 2 (pick_can and "
                "carry_place_can have a choice)"
            )

    def instruction(self, world: "World") -> str:
        """The instruction that names the other object."""
        return world.other_instruction


class RemovedObject(Eyes):
    """Control `object_removed`: the object is taken away before the policy looks, so nothing can succeed.

    It reports how often the policy goes through the motion all the same; such an episode ends as `attempted`.
    """

    def reset(self, seed: int, world: "World") -> None:
        """Take the object away. Raises `UnavailableControlError` where it cannot be."""
        try:
            world.remove_object()
        except Psi0Error as error:
            raise UnavailableControlError(f"control object_removed: {error}") from None

    def ends(self, world: "World") -> str | None:
        """`attempted` as soon as the robot has gone through the motion."""
        return ATTEMPTED if world.attempted() else None


class SwappedEyes(Eyes):
    """Control `swapped_image`: the camera shows another seed's scene, in a second world that moves along.

    The second world is reset to a seed derived from the first and executes the very same actions, so the images move
    as the robot moves: a sharp, plausible picture of the wrong place. When the second episode ends (success, a fall),
    its last image stays. State and instruction are the first world's.

    A scene whose object stands where this one's does takes nothing away, so one is taken whose object is at least
    `distance` off as seen from the robot [m].
    """

    def __init__(self, other: "World", invalid_seed: type[Exception], distance: float = 0.0) -> None:
        self._other = other
        self._invalid_seed = invalid_seed
        self._distance = distance
        self._last: NDArray[np.uint8] | None = None

    def reset(self, seed: int, world: "World") -> None:
        """Put the second world into another scene.

        Raises:
            RuntimeError: none of the derived seeds settles with its object far enough off.
        """
        self._last = None
        here = world.object_place()
        for attempt in range(OTHER_SEEDS_TRIED):
            try:
                self._other.reset(other_seed(seed, attempt))
            except self._invalid_seed:
                continue
            if np.linalg.norm(self._other.object_place() - here) >= self._distance:
                return
        raise RuntimeError(f"no other scene for seed {seed} settles with its object {self._distance:g} m off")

    def image(self, world: "World") -> NDArray[np.uint8]:
        """The other scene's head camera image."""
        return self._other.head_camera() if self._last is None else self._last

    def step(self, action: NDArray[np.float32]) -> None:
        """Move the second world along."""
        if self._last is None and self._other.step(action) is not None:
            self._last = self._other.head_camera()


def other_seed(seed: int, attempt: int) -> int:
    """An evaluation seed that follows from `seed` and differs from it."""
    digest = hashlib.sha256(f"another scene than {seed}, attempt {attempt}".encode()).digest()
    other = EVALUATION_SEEDS_START + int.from_bytes(digest[:4], "big")
    return other if other != seed else other + 1


CONTROLS = ("none", "blind", "swapped_image", "wrong_instruction", "object_removed")
_WITHOUT_OPTIONS: dict[str, type[Eyes]] = {
    "none": Eyes,
    "wrong_instruction": MisledEars,
    "object_removed": RemovedObject,
}


def make_eyes(
    control: str,
    height: int,
    width: int,
    make_world: Callable[[], "World"],
    invalid_seed: type[Exception],
    swap_distance: float = 0.0,
) -> Eyes:
    """The eyes of a control. Raises `Psi0Error` for an unknown name."""
    if control in _WITHOUT_OPTIONS:
        return _WITHOUT_OPTIONS[control]()
    if control == "blind":
        return BlindEyes(height, width)
    if control == "swapped_image":
        return SwappedEyes(make_world(), invalid_seed, swap_distance)
    raise Psi0Error(f"control {control!r} does not exist; controls: {', '.join(CONTROLS)}")
