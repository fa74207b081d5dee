"""One raw episode as every importer yields it, whatever format it came from."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import av.error
import numpy as np
from numpy.typing import NDArray

from psi0.errors import Psi0Error

Image = NDArray[np.uint8]
"""One RGB frame, uint8 `(height, width, 3)`."""

Grouping = dict[str, list[str]]
"""Relative file names by episode name; under the empty name those that every episode needs."""


class BadEpisode(Exception):  # noqa: N818 (it is a reason, not a fault of the program)
    """An episode that cannot be used. The message is the reason that `quality.json` shows."""


class OtherRobot(BadEpisode):
    """A sound episode of a robot this recipe does not train on; it does not count as bad."""


MISSHAPEN = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What Python raises where a file's content has another shape than its format promises."""


def in_short(error: Exception) -> str:
    """The first line of an error's text, or its name where it has none."""
    lines = str(getattr(error, "strerror", None) or error).splitlines()
    return lines[0][:120] if lines else type(error).__name__


@contextmanager
def or_bad_episode() -> Iterator[None]:
    """Turn what a misshapen file makes Python raise into `BadEpisode`: one odd episode must not end a stage."""
    try:
        yield
    except (*MISSHAPEN, OSError, av.error.FFmpegError) as error:
        raise BadEpisode(f"cannot be read ({type(error).__name__}: {in_short(error)})") from error


@contextmanager
def as_psi0_error(what: str) -> Iterator[None]:
    """Turn what misshapen metadata makes Python raise into `Psi0Error`: it spoils every episode of a dataset."""
    try:
        yield
    except MISSHAPEN as error:
        raise Psi0Error(
            f"{what} is not as its format describes it ({type(error).__name__}: {in_short(error)}); download it again"
        ) from error


@dataclass(frozen=True)
class RawEpisode:
    """Numbers of one episode in memory, its images as a stream.

    Attributes:
        name: path of the episode relative to its source, the name people know it by.
        timestamps: float64 `(frames,)` [s], as recorded; they need not start at 0.
        instruction: what the person or robot was asked to do, in plain words.
        columns: float32 `(frames, size)` each, by the name of the prepared feature.
        images: opens the video at a width and height [pixels] and yields one RGB image per frame. Raises
            `BadEpisode` where a frame cannot be decoded; may yield fewer or more frames than there are numbers.
        frame_rate: frames per second as the source states it, None when it does not.
        action_mask, state_mask: which of the 36 and 32 numbers this robot really has; None means all.
        notes: numbers worth reporting about this episode (`quality.json`).
    """

    name: str
    timestamps: NDArray[np.float64]
    instruction: str
    columns: dict[str, NDArray[np.float32]]
    images: Callable[[int, int], Iterator[Image]]
    frame_rate: float | None = None
    action_mask: tuple[float, ...] | None = None
    state_mask: tuple[float, ...] | None = None
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.timestamps)


@dataclass(frozen=True)
class Options:
    """What a person says about data whose files do not say it, or say it wrongly.

    Attributes:
        frame_rate: frames per second whatever the files say; 0 believes the files.
        camera: the camera to use of several; empty takes the one that sees most like the robot's head.
    """

    frame_rate: float = 0
    camera: str = ""


AS_FOUND = Options()


class Importer(ABC):
    """Reads one format.

    Args:
        root: folder of the dataset.
        files: names of its files relative to `root`; files not named here are not looked at.
        options: what the files do not say.
    """

    format: ClassVar[str]

    def __init__(self, root: Path, files: Sequence[str], options: Options = AS_FOUND) -> None:
        self.root = root
        self.options = options
        self.grouping = self.group(files)

    @classmethod
    @abstractmethod
    def group(cls, files: Sequence[str]) -> Grouping:
        """Sort file names into episodes, by name only, so that a bucket can be indexed without fetching it.

        Files that belong to no episode are left out. A format whose episodes are listed inside its files returns those
        files under the empty name, which are then at hand before `names` is asked for.
        """

    @property
    def names(self) -> list[str]:
        """Names of the episodes, in order."""
        return [name for name in self.grouping if name]

    def files_of(self, name: str) -> list[str]:
        """Relative names of the files that `load(name)` reads."""
        return self.grouping[""] + self.grouping[name]

    @abstractmethod
    def load(self, name: str) -> RawEpisode:
        """Open one episode.

        Raises:
            BadEpisode: it cannot be used; the message is the reason.
        """


def humanise(name: str) -> str:
    """A folder name as words: `Pick_up-the_can` becomes `pick up the can`."""
    return " ".join(name.replace("-", " ").replace("_", " ").split()).lower()


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key under which episode_2 comes before episode_10."""
    parts: list[tuple[int, str]] = []
    digits = ""
    for character in name + "\0":
        if character.isdigit():
            digits += character
            continue
        if digits:
            parts.append((int(digits), ""))
            digits = ""
        parts.append((-1, character))
    return parts
