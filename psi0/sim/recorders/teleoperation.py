"""Demonstrations in the layout of G1 teleoperation, recorded from a demonstrator under disturbance.

Where a person's commands would be are the demonstrator's clean ones; what is executed is disturbed, so the episodes
show recoveries. A share of them begins after a mistake, which itself is not recorded. Only successful episodes are
kept. They go on a little after the success: a policy that never saw what follows would go on with the task.
"""

from pathlib import Path
from typing import Any

import numpy as np

from psi0.params import Camera, Control
from psi0.robot.layout import ACTION_NAMES, ActionPart
from psi0.sim.demonstrators import make_demonstrator
from psi0.sim.demonstrators.disturbance import Disturbance
from psi0.sim.recorders import measurements
from psi0.sim.recorders.frames import FrameList
from psi0.sim.world import InvalidSeed, World, make_world

_MISTAKES = 778
_STAYS_SECONDS = 2.0
"""How long it is recorded after the success [s]."""


class TeleoperationRecorder:
    """Records demonstrations of one task, among `objects` of a kind.

    `noise` scales the disturbance, `recoveries` is the share that begins after a mistake.
    """

    def __init__(
        self, task: str, control: Control, camera: Camera, objects: int, noise: float, recoveries: float
    ) -> None:
        self._world = make_world(task, control, camera, objects=objects)
        self._noise, self._recoveries = noise, recoveries
        self._demonstrator = make_demonstrator(self._world)

    def record(self, seed: int, folder: Path) -> dict[str, Any] | None:
        """Write one episode; None when its seed is invalid or the demonstrator failed."""
        world = self._world
        try:
            world.reset(seed)
        except InvalidSeed:
            return None
        self._demonstrator.reset(seed)
        if begins_with_a_mistake(seed, self._recoveries):
            random = np.random.default_rng([seed, _MISTAKES])
            random.random()  # Spent on whether.
            self._demonstrator.misjudge(random)
        disturbance = Disturbance(world.policy_hz, self._noise, seed)
        frames, end = FrameList(folder), None
        while end is None or world.steps < end:
            action = world.limits.clip(self._demonstrator.act(world.observe())[0])
            if not self._demonstrator.misjudging:
                frames.add(teleoperation_frame(world, action), world.head_camera())
            outcome = world.step(world.limits.clip(disturbance.disturb(action)))
            if outcome is not None and not outcome.success:
                return None
            if outcome is not None and end is None:
                end = world.steps + round(_STAYS_SECONDS * world.policy_hz)
        frames.save()
        return {"instruction": world.instruction, "frames": len(frames)}


def begins_with_a_mistake(seed: int, recoveries: float) -> bool:
    """Whether the demonstration of a seed begins with a mistake, of which `recoveries` is the share."""
    return np.random.default_rng([seed, _MISTAKES]).random() < recoveries


def teleoperation_frame(world: World, action: np.ndarray) -> dict[str, Any]:
    """A frame with the published keys: what is measured now, and the command `(36,)` given now."""
    time = world.steps / world.policy_hz
    command = dict(zip(ACTION_NAMES, action.tolist(), strict=True))
    torque = np.zeros(29)
    torque[15:] = world.body.gravity_torque()
    head = np.eye(4)
    head[:3, :3] = measurements.head_camera_pose(world)[:3, :3]
    return {
        "time": time,
        "robot_type": measurements.ROBOT_TYPE,
        "states": measurements.states(world),
        "actions": {
            "left_angles": action[ActionPart.LEFT_HAND],
            "right_angles": action[ActionPart.RIGHT_HAND],
            "sol_q": np.concatenate([world.body.lower_target(), action[ActionPart.ARMS]]),
            "tau_ff": torque,
            "head_rmat": head,
            "left_pose": measurements.wrist_pose(world, "left"),
            "right_pose": measurements.wrist_pose(world, "right"),
            "torso_height": command["height"],
            "torso_rpy": action[ActionPart.TORSO],
            "torso_vx": command["velocity_x"],
            "torso_vy": command["velocity_y"],
            "torso_vyaw": command["velocity_yaw"],
            "torso_dyaw": 0.0,
            "target_yaw": command["target_yaw"],
            "armtime": time,
            "iktime": time,
        },
        "psi0": {"key_points": world.key_points()},
    }
