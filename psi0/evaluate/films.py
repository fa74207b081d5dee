"""Films of episodes as the report carries them: inside the page, as many as a mail and a phone can bear."""

import base64
from dataclasses import dataclass
from pathlib import Path

from psi0.evaluate.evidence import Evidence
from psi0.evaluate.schemas import Row
from psi0.evaluate.video import last_picture

MAX_BYTES = 16_000_000
"""Films beyond this sum stay beside the report; inside it they take a third more."""


@dataclass(frozen=True)
class Film:
    """One episode: its film and the last picture of it, as `data:` addresses."""

    row: Row
    source: str
    picture: str


@dataclass(frozen=True)
class ArmFilms:
    """The films of one arm; `left_out` more did not fit."""

    arm: str
    films: list[Film]
    left_out: int


def gather_films(evidence: Evidence, folder: Path) -> list[ArmFilms]:
    """Films `<arm>_<seed>.mp4` of the evidence's episodes: arms in order, failures first, until the page is full."""
    arms, size = [], 0
    for arm, evaluation in evidence.evaluations.items():
        films, left_out = [], 0
        for row in sorted(evaluation.rows, key=lambda row: row.success):
            file = folder / f"{arm}_{row.seed}.mp4"
            if not file.exists():
                continue
            content = file.read_bytes()
            picture = last_picture(content)
            if size + len(content) + len(picture) > MAX_BYTES:
                left_out += 1
                continue
            size += len(content) + len(picture)
            films.append(Film(row, _address("video/mp4", content), _address("image/jpeg", picture)))
        if films or left_out:
            arms.append(ArmFilms(arm, films, left_out))
    return arms


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}" if content else ""
