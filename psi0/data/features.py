"""Names of the prepared columns and of every number in them."""

from collections.abc import Iterable

from psi0.data.lerobot_format import Feature
from psi0.robot.layout import ACTION_NAMES, SIDES, STATE_NAMES

CAMERA = "observation.images.egocentric"
STATE = "observation.state"
ACTION = "action"
ACTION_VALID = "action.valid"
TASK_SPACE = "action.task_space"
TASK_SPACE_VALID = "action.task_space_valid"
KEY_POINTS = "observation.key_points"

FINGERS = ("thumb", "index", "middle", "ring", "little")
_WRIST = ("x", "y", "z", "rotation_x", "rotation_y", "rotation_z", "unused_0", "unused_1", "unused_2")
TASK_SPACE_NAMES = tuple(
    f"{side}_{name}"
    for side in SIDES
    for name in (
        *(f"wrist_{number}" for number in _WRIST),
        *(f"{finger}_tip_{axis}" for finger in FINGERS for axis in "xyz"),
    )
)
"""The 48 numbers of stage 1, 24 per hand: wrist translation [m] and rotation [rad], three zeros, five tips [m]."""
TASK_SPACE_SIZE = len(TASK_SPACE_NAMES)


def feature_of(name: str, size: int) -> Feature:
    """The feature of a prepared column, its numbers named."""
    if name in (ACTION, TASK_SPACE) and size == TASK_SPACE_SIZE:
        return Feature(size, TASK_SPACE_NAMES)
    if name == ACTION:
        return Feature(size, ACTION_NAMES)
    if name == STATE:
        return Feature(size, STATE_NAMES)
    if name == KEY_POINTS:
        return Feature(size, tuple(f"point_{i}_{axis}" for i in range(size // 5) for axis in "xyzuv"))
    if name in (ACTION_VALID, TASK_SPACE_VALID):
        return Feature(size, ("valid",))
    return Feature(size, tuple(f"{name}_{i}" for i in range(size)))


def valid_columns(features: Iterable[str]) -> dict[str, str]:
    """For each column that is empty in some rows, the column that says in which rows it is not."""
    pairs = {ACTION: ACTION_VALID, TASK_SPACE: TASK_SPACE_VALID}
    present = set(features)
    return {name: valid for name, valid in pairs.items() if {name, valid} <= present}
