"""Which number of a LeRobot vector is which of ours, by the names that published datasets give them."""

import re
from functools import cache

from psi0.data.episode import BadEpisode
from psi0.robot.layout import (
    LEFT_ARM_JOINTS,
    LEFT_HAND_JOINTS,
    RIGHT_ARM_JOINTS,
    RIGHT_HAND_JOINTS,
    UPPER_BODY_JOINTS,
)

JOINTS = len(UPPER_BODY_JOINTS)
_ALSO = {
    "torso_roll": ("roll", "torso_rpy_0"),
    "torso_pitch": ("pitch", "torso_rpy_1"),
    "torso_yaw": ("yaw", "torso_rpy_2"),
    "height": ("torso_height", "base_height"),
    "velocity_x": ("torso_vx", "vx"),
    "velocity_y": ("torso_vy", "vy"),
    "velocity_yaw": ("torso_vyaw", "vyaw"),
}
"""Other names of the commands to the lower body: those of Psi0's raw files and of its conversions."""
_NUMBERED = (
    (LEFT_HAND_JOINTS, "left_hand"),
    (RIGHT_HAND_JOINTS, "right_hand"),
    (LEFT_ARM_JOINTS, "left_arm"),
    (RIGHT_ARM_JOINTS, "right_arm"),
)
"""Joints that are also found as `left_hand_0` or `left_arm_elbow`."""


def places(said: list[str], count: int, names: tuple[str, ...], column: str) -> list[int]:
    """Where each stored number belongs among `names`: by its own name, or by position where it has none we know.

    Args:
        said: names that the dataset gives its numbers; may be empty.
        count: how many numbers there are.
        names: of this project's state or action.
        column: for messages.

    Raises:
        BadEpisode: some names are known and others are not, or none is and the count does not fit.
    """
    known = _spellings(names)
    plain = [_plain_name(name) for name in said]
    strange = [name for name, simple in zip(said, plain, strict=True) if simple not in known]
    found = [known[simple] for simple in plain if simple in known]
    if len(said) == count and len(set(found)) == count:
        return found
    if len(said) == count and len(strange) < count:
        twice = next((name for name, place in zip(said, found, strict=False) if found.count(place) > 1), "")
        odd = ", ".join(strange[:3])
        raise BadEpisode(
            f"{column} holds {odd}, which this robot does not have" if odd else f"{column} names {twice} twice"
        )
    if count in (len(names), JOINTS):
        return list(range(count))
    raise BadEpisode(f"{column} holds {count} numbers; expected {len(names)} or {JOINTS}, or this robot's joint names")


@cache
def _spellings(names: tuple[str, ...]) -> dict[str, int]:
    """Position of every name in `names`, by all the ways in which published datasets spell it."""
    found: dict[str, int] = {}
    for position, name in enumerate(names):
        plain = _plain_name(name)
        bare = plain.removeprefix("previous_")
        spellings = [plain, *(prefix + each for each in (bare, *_ALSO.get(bare, ())) for prefix in ("", "prev_"))]
        for joints, part in _NUMBERED:
            if name in joints:
                side = part.split("_")[0]
                spellings += [f"{part}_{joints.index(name)}", plain.replace(f"{side}_", f"{part}_", 1)]
        for spelling in spellings:
            found.setdefault(spelling, position)
    return found


def _plain_name(name: str) -> str:
    """`kLeftShoulderPitch`, `left_shoulder_pitch_joint` and `main.left_shoulder_pitch` are one joint."""
    last = re.sub(r"^k(?=[A-Z])", "", name.split(".")[-1])
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Za-z])(?=[0-9])", "_", last).lower()
    return snake.replace("__", "_").removesuffix("_joint")
