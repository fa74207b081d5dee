"""The one place that knows the order of the 36 action and 32 state numbers.

Order and units follow the Psi-Zero paper (section III) and its published conversion script: hands, arms, torso,
height, velocity commands. The two Dex3-1 hands order their fingers differently; both orders are spelled out here.
"""

SIDES = ("left", "right")

LEFT_HAND_JOINTS = tuple(
    f"left_hand_{finger}_joint"
    for finger in ("thumb_0", "thumb_1", "thumb_2", "middle_0", "middle_1", "index_0", "index_1")
)
RIGHT_HAND_JOINTS = tuple(
    f"right_hand_{finger}_joint"
    for finger in ("thumb_0", "thumb_1", "thumb_2", "index_0", "index_1", "middle_0", "middle_1")
)
_ARM = ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow", "wrist_roll", "wrist_pitch", "wrist_yaw")
LEFT_ARM_JOINTS = tuple(f"left_{joint}_joint" for joint in _ARM)
RIGHT_ARM_JOINTS = tuple(f"right_{joint}_joint" for joint in _ARM)

HAND_JOINTS = LEFT_HAND_JOINTS + RIGHT_HAND_JOINTS
ARM_JOINTS = LEFT_ARM_JOINTS + RIGHT_ARM_JOINTS
UPPER_BODY_JOINTS = HAND_JOINTS + ARM_JOINTS
"""The 28 joints that System-1 commands directly [rad]."""

_LEG = ("hip_pitch", "hip_roll", "hip_yaw", "knee", "ankle_pitch", "ankle_roll")
LEG_JOINTS = tuple(f"{side}_{joint}_joint" for side in SIDES for joint in _LEG)
WAIST_JOINTS = ("waist_yaw_joint", "waist_roll_joint", "waist_pitch_joint")
LOWER_BODY_JOINTS = LEG_JOINTS + WAIST_JOINTS
"""The 15 joints that System-0 drives [rad]."""

ALL_JOINTS = LOWER_BODY_JOINTS + UPPER_BODY_JOINTS
"""All 43 actuated joints."""

LOWER_BODY_COMMANDS = (
    "torso_roll",
    "torso_pitch",
    "torso_yaw",
    "height",
    "velocity_x",
    "velocity_y",
    "velocity_yaw",
    "target_yaw",
)
"""The eight commands to System-0: rad, rad, rad, m, m/s, m/s, rad/s, rad."""

ACTION_NAMES = UPPER_BODY_JOINTS + LOWER_BODY_COMMANDS
STATE_NAMES = (
    *UPPER_BODY_JOINTS,
    "previous_torso_roll",
    "previous_torso_pitch",
    "previous_torso_yaw",
    "previous_height",
)
ACTION_SIZE = len(ACTION_NAMES)
STATE_SIZE = len(STATE_NAMES)


class ActionPart:
    """Named slices of an action `(..., 36)`; the first seven hold for a state `(..., 32)` too."""

    LEFT_HAND = slice(0, 7)
    RIGHT_HAND = slice(7, 14)
    HANDS = slice(0, 14)
    LEFT_ARM = slice(14, 21)
    RIGHT_ARM = slice(21, 28)
    ARMS = slice(14, 28)
    UPPER_BODY = slice(0, 28)
    TORSO = slice(28, 31)
    TORSO_AND_HEIGHT = slice(28, 32)
    HEIGHT = 31
    VELOCITY = slice(32, 35)
    TARGET_YAW = 35
    WALKING = slice(32, 36)
    COMMANDS = slice(28, 36)
