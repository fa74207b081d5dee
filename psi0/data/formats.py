"""Which format some raw files are in, and its importer."""

import json
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from psi0.data.egodex import EgoDex
from psi0.data.episode import MISSHAPEN, Importer
from psi0.data.frame_list import action_value, value_at
from psi0.data.humanoid_everyday import HumanoidEveryday
from psi0.data.lerobot_reader import LeRobotReader
from psi0.data.teleoperation import Teleoperation
from psi0.data.unitree import Unitree
from psi0.errors import Psi0Error

IMPORTERS: dict[str, type[Importer]] = {
    each.format: each for each in (EgoDex, HumanoidEveryday, Teleoperation, Unitree, LeRobotReader)
}
HUMAN_FORMATS = (EgoDex.format,)
"""What stage 1 takes as egocentric human video."""
ROBOT_FORMATS = (HumanoidEveryday.format, Teleoperation.format, Unitree.format, LeRobotReader.format)
"""What serves as episodes of the robot."""
_MOST_TRIED = 20


def detect_format(files: Sequence[str], read: Callable[[str], bytes], source: str) -> str:
    """Tell the format from the names of files, and from the content of a `data.json` where names do not tell.

    Raises:
        Psi0Error: the files look like none of the formats.
    """
    if "meta/info.json" in files:
        return LeRobotReader.format
    if any(file.endswith(".hdf5") for file in files):
        return EgoDex.format
    if "task_description_dict.json" in files:
        return HumanoidEveryday.format
    lists = [file for file in files if PurePosixPath(file).name == "data.json"]
    for file in lists[:_MOST_TRIED]:
        format = _format_of(read(file))
        if format is not None:
            return format
    if lists:
        raise Psi0Error(
            f"{source}: the format cannot be told from {lists[0]} and {len(lists[:_MOST_TRIED]) - 1} more (empty, "
            "truncated, or of an unknown layout); name it in `format` of the dataset"
        )
    inner = sorted({file.removesuffix("/meta/info.json") for file in files if file.endswith("/meta/info.json")})
    if inner:
        raise Psi0Error(
            f"{source} holds {len(inner)} LeRobot datasets; name one as the source, e.g. {source}/{inner[0]}"
        )
    raise Psi0Error(
        f"{source} holds no episodes of a known format: expected *.hdf5 with *.mp4 (EgoDex), data.json with color/ "
        "(Humanoid Everyday, G1 teleoperation) or colors/ (Unitree), or meta/info.json (LeRobot); check the path"
    )


def _format_of(content: bytes) -> str | None:
    """The format of one `data.json` by its first frame; None where it does not tell."""
    try:
        parsed = json.loads(content)
        frame = (parsed["data"] if isinstance(parsed, dict) else parsed)[0]
        if isinstance(frame.get("colors"), dict):
            return Unitree.format
        if action_value(frame, "torso_rpy") is not None:
            return Teleoperation.format
        return HumanoidEveryday.format if value_at(frame, "states", "arm_state") is not None else None
    except MISSHAPEN:
        return None
