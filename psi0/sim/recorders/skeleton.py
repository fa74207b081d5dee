"""The 68 joints of EgoDex, and a human hand that opens and closes.

Every joint's frame has its x axis along the bone that starts there. A hand's frame (`leftHand`, `rightHand`, at the
wrist): x towards the fingers, z out of the back of the hand; the thumb is on +y of a right hand, -y of a left one.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from psi0.sim.scene import rotation_z

Pose = NDArray[np.float64]
"""`(4, 4)`, or `(frames, 4, 4)` [m]."""

SIDES = ("left", "right")
SPINE = ("hip", *(f"spine{i}" for i in range(1, 8)), *(f"neck{i}" for i in range(1, 5)))
ARM = ("Shoulder", "Arm", "Forearm", "Hand")
THUMB = ("ThumbKnuckle", "ThumbIntermediateBase", "ThumbIntermediateTip", "ThumbTip")
FINGERS = ("Index", "Middle", "Ring", "Little")
FINGER = ("FingerMetacarpal", "FingerKnuckle", "FingerIntermediateBase", "FingerIntermediateTip", "FingerTip")

_METACARPAL = {"Index": (0.025, 0.015), "Middle": (0.025, 0.003), "Ring": (0.025, -0.009), "Little": (0.025, -0.020)}
_KNUCKLE = {"Index": (0.090, 0.025), "Middle": (0.092, 0.003), "Ring": (0.086, -0.018), "Little": (0.078, -0.036)}
_BONES = {
    "Index": (0.042, 0.025, 0.020),
    "Middle": (0.046, 0.029, 0.021),
    "Ring": (0.042, 0.027, 0.021),
    "Little": (0.033, 0.020, 0.018),
}
"""Lengths of an adult's finger bones [m]."""
_THUMB_ROOT, _THUMB_BONES = (0.025, 0.030, -0.008), (0.045, 0.032, 0.027)
_FLEXION = (1.2, 1.3, 0.8)
"""Angles of a closed finger at knuckle, middle and end joint [rad]."""
_MIRROR = np.diag([1.0, -1.0, 1.0, 1.0])


def joint_names() -> tuple[str, ...]:
    """All 68, in EgoDex's spelling."""
    hands = [
        *THUMB,
        *(f"{finger}{joint}" for finger in FINGERS for joint in FINGER),
    ]
    return (*SPINE, *(f"{side}{joint}" for side in SIDES for joint in (*ARM, *hands)))


def _pose(rotation: NDArray[np.float64], position: NDArray[np.float64]) -> Pose:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, position
    return pose


def _turn_y(angle: float) -> NDArray[np.float64]:
    """Rotation `(3, 3)` that bends x downwards by `angle` [rad]."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])


def _chain(root: Pose, lengths: tuple[float, ...], turns: list[NDArray[np.float64]]) -> Iterator[Pose]:
    """Poses of joints along a finger, each turned `(3, 3)` against the one before, and of its tip."""
    rotation, position = root[:3, :3], root[:3, 3]
    for length, turn in zip(lengths, turns, strict=True):
        rotation = rotation @ turn
        yield _pose(rotation, position)
        position = position + length * rotation[:, 0]
    yield _pose(rotation, position)


def _right_hand(curl: NDArray[np.float64]) -> dict[str, Pose]:
    """Joints of a right hand in its own frame; `curl` `(5,)` from 0 (open) to 1 (closed), thumb first."""
    joints: dict[str, Pose] = {}
    thumb = float(curl[0])
    across = _turn_y(0.2 + 0.5 * thumb) @ rotation_z(0.8 - 0.9 * thumb)
    turns = [across, rotation_z(-0.5 * thumb), rotation_z(-0.6 * thumb)]
    joints |= zip(THUMB, _chain(_pose(np.eye(3), np.array(_THUMB_ROOT)), _THUMB_BONES, turns), strict=True)
    for finger, bend in zip(FINGERS, curl[1:], strict=True):
        knuckle, base = (np.array([*place[finger], 0.0]) for place in (_KNUCKLE, _METACARPAL))
        way = knuckle - base
        spread = rotation_z(float(np.arctan2(way[1], way[0])))
        joints[f"{finger}{FINGER[0]}"] = _pose(spread, base)
        turns = [_turn_y(angle * float(bend)) for angle in _FLEXION]
        chain = _chain(_pose(spread, knuckle), _BONES[finger], turns)
        joints |= zip((f"{finger}{joint}" for joint in FINGER[1:]), chain, strict=True)
    return joints


def hand_joints(side: str, wrist: Pose, curl: NDArray[np.float64]) -> dict[str, Pose]:
    """World poses `(4, 4)` of a hand's 25 joints, wrist included, for its wrist pose and curl `(5,)`."""
    joints = _right_hand(curl)
    if side == "left":
        joints = {name: _MIRROR @ pose @ _MIRROR for name, pose in joints.items()}
    return {f"{side}Hand": wrist} | {f"{side}{name}": wrist @ pose for name, pose in joints.items()}


def _along(start: NDArray[np.float64], end: NDArray[np.float64]) -> Pose:
    """A frame at `start` whose x axis points to `end`."""
    x = (end - start) / np.linalg.norm(end - start)
    # y = (0, 0, 1) cross x, or (0, 1, 0) cross x for bones that stand upright; z = x cross y.
    y = np.array([-x[1], x[0], 0.0]) if abs(x[2]) < 0.9 else np.array([x[2], 0.0, -x[0]])
    y /= np.linalg.norm(y)
    z = np.array([x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]])
    return _pose(np.stack([x, y, z], axis=1), start)


def body_joints(head: NDArray[np.float64], wrists: dict[str, Pose]) -> dict[str, Pose]:
    """Spine, neck, shoulders and arms that fit a head position `(3,)` and both wrists, without wrists and fingers."""
    top = head + np.array([-0.08, 0.0, -0.08])
    hip = np.array([top[0] - 0.02, top[1], top[2] - 0.68])
    points = [hip + (top - hip) * share for share in np.linspace(0, 1, len(SPINE) + 1)]
    joints = {name: _along(points[i], points[i + 1]) for i, name in enumerate(SPINE)}
    neck = points[8]
    for side, sign in (("left", 1.0), ("right", -1.0)):
        shoulder = neck + np.array([0.0, 0.18 * sign, -0.03])
        wrist = wrists[side][:3, 3]
        elbow = (shoulder + wrist) / 2 + np.array([-0.06, 0.10 * sign, -0.12])
        joints[f"{side}Shoulder"] = _along(neck + np.array([0.0, 0.04 * sign, 0.0]), shoulder)
        joints[f"{side}Arm"] = _along(shoulder, elbow)
        joints[f"{side}Forearm"] = _along(elbow, wrist)
    return joints


def bones(side: str) -> list[tuple[str, str, float]]:
    """Pairs of joints and the radius [m] of the flesh around the bone between them, for drawing a hand and forearm."""
    drawn = [(f"{side}Forearm", f"{side}Hand", 0.028), (f"{side}Hand", f"{side}{THUMB[0]}", 0.016)]
    drawn += [(f"{side}{a}", f"{side}{b}", 0.010) for a, b in pairwise(THUMB)]
    for finger in FINGERS:
        names = [f"{side}{finger}{joint}" for joint in FINGER]
        drawn.append((f"{side}Hand", names[1], 0.014))
        drawn += [(a, b, 0.0085) for a, b in pairwise(names[1:])]
    return drawn
