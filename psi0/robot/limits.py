"""What the joints can do and what an action may ask for: `limits.json`, written once, read by everything."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from psi0.errors import Psi0Error
from psi0.files import read_json
from psi0.robot.constants import COMMAND_LIMITS
from psi0.robot.layout import ACTION_NAMES, ACTION_SIZE, ALL_JOINTS, UPPER_BODY_JOINTS

LIMITS_FILE = "limits.json"

_VELOCITY = {
    "hip_pitch": 32.0,
    "hip_roll": 20.0,
    "hip_yaw": 32.0,
    "knee": 20.0,
    "ankle": 37.0,
    "waist_yaw": 32.0,
    "waist": 37.0,
    "shoulder": 37.0,
    "elbow": 37.0,
    "wrist_roll": 37.0,
    "wrist": 22.0,
    "thumb_0": 3.14,
    "hand": 12.0,
}
"""No-load speeds [rad/s] as Unitree's g1_29dof_with_hand_rev_1_0.urdf states them; the MuJoCo model has none."""


class JointLimit(BaseModel):
    """Limits of one joint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float = Field(description="Lowest position [rad]")
    high: float = Field(description="Highest position [rad]")
    velocity: float = Field(description="Highest speed [rad/s]")
    effort: float = Field(description="Highest torque [N m]")


class CommandLimit(BaseModel):
    """Range of one command to System-0 [rad, m, m/s, rad/s]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float
    high: float


class LimitsFile(BaseModel):
    """Content of `limits.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1
    joints: dict[str, JointLimit]
    commands: dict[str, CommandLimit]


@dataclass(frozen=True)
class Limits:
    """Limits as arrays: joints in the order of `ALL_JOINTS` `(43,)`, actions in that of `ACTION_NAMES` `(36,)`."""

    file: LimitsFile
    position_low: NDArray[np.float64]
    position_high: NDArray[np.float64]
    velocity: NDArray[np.float64]
    effort: NDArray[np.float64]
    action_low: NDArray[np.float64]
    action_high: NDArray[np.float64]

    def clip(self, action: NDArray[np.floating]) -> NDArray[np.float32]:
        """The nearest action `(..., 36)` within the limits."""
        return np.clip(action, self.action_low, self.action_high).astype(np.float32)

    def complaint(self, action: object, tolerance: float = 0.05) -> str | None:
        """What is wrong with an action `(36,)`, naming the entry; None when it can be executed.

        `tolerance`: how far [rad, m, ...] an entry may lie outside its range and still be clipped silently.
        """
        try:
            values = np.asarray(action, dtype=np.float64)
        except (TypeError, ValueError):
            return "action is not an array of numbers"
        if values.shape != (ACTION_SIZE,):
            return f"action has shape {values.shape}, expected ({ACTION_SIZE},)"
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            return f"{ACTION_NAMES[wrong[0]]} is {values[wrong[0]]}"
        outside = np.flatnonzero((values < self.action_low - tolerance) | (values > self.action_high + tolerance))
        if outside.size:
            i = outside[0]
            low, high = self.action_low[i], self.action_high[i]
            return f"{ACTION_NAMES[i]} is {values[i]:.3f}, outside {low:.3f} to {high:.3f}"
        return None


def velocity_limit(joint: str) -> float:
    """Speed limit of a joint [rad/s]."""
    return next(value for part, value in _VELOCITY.items() if part in joint)


def limits_from(ranges: dict[str, tuple[float, float]], efforts: dict[str, float]) -> LimitsFile:
    """`limits.json` from the model's position ranges [rad] and torques [N m] per joint."""
    return LimitsFile(
        joints={
            joint: JointLimit(
                low=ranges[joint][0],
                high=ranges[joint][1],
                velocity=velocity_limit(joint),
                effort=efforts[joint],
            )
            for joint in ALL_JOINTS
        },
        commands={name: CommandLimit(low=low, high=high) for name, (low, high) in COMMAND_LIMITS.items()},
    )


def load_limits(robot_folder: Path) -> Limits:
    """Read `limits.json` of a robot folder. Raises `Psi0Error` when it is missing or does not fit."""
    path = robot_folder / LIMITS_FILE
    try:
        file = LimitsFile.model_validate(read_json(path))
    except ValidationError as error:
        raise Psi0Error(f"{path} does not hold joint limits ({error.errors()[0]['msg']}); `dvc repro robot`") from None
    if file.schema_version != 1 or set(file.joints) != set(ALL_JOINTS) or set(file.commands) != set(COMMAND_LIMITS):
        raise Psi0Error(f"{path} is of another robot or schema version; `dvc repro robot` rebuilds it")
    joints = [file.joints[name] for name in ALL_JOINTS]
    upper = [file.joints[name] for name in UPPER_BODY_JOINTS]
    commands = [file.commands[name] for name in COMMAND_LIMITS]
    low = [joint.low for joint in upper] + [command.low for command in commands]
    high = [joint.high for joint in upper] + [command.high for command in commands]
    return Limits(
        file=file,
        position_low=np.array([joint.low for joint in joints]),
        position_high=np.array([joint.high for joint in joints]),
        velocity=np.array([joint.velocity for joint in joints]),
        effort=np.array([joint.effort for joint in joints]),
        action_low=np.array(low),
        action_high=np.array(high),
    )
