"""Finished episodes, kept as JSON lines while an evaluation runs, so that a killed one goes on where it stopped."""

import json
import os
from pathlib import Path

from pydantic import ValidationError

from psi0.evaluate.rollout import Episode
from psi0.evaluate.schemas import Row
from psi0.files import write_text


class Store:
    """The episodes of one arm in one file; its first line says what they were made with.

    A file made with something else (other code, other robot, other packages) is begun anew. A last line that was
    cut off by a kill is dropped. Without a file nothing is kept.
    """

    def __init__(self, file: Path | None, made_with: str) -> None:
        self._file = file
        self._header = json.dumps({"made_with": made_with})
        self.episodes: dict[int, Episode | None] = {}
        """Finished episodes by seed; None where the scene does not settle."""
        if file is not None:
            self._load(file)

    def add(self, seed: int, episode: Episode | None) -> None:
        """Keep an episode; it is on the disk when this returns."""
        self.episodes[seed] = episode
        if self._file is None:
            return
        with self._file.open("a") as file:
            file.write(_line(seed, episode) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _load(self, path: Path) -> None:
        lines = path.read_text(errors="replace").split("\n") if path.exists() else []
        if lines and lines[0] == self._header:
            for line in lines[1:]:
                try:
                    seed, episode = _parse(line)
                except (ValueError, KeyError, TypeError, ValidationError):
                    continue
                self.episodes[seed] = episode
        kept = [self._header, *(_line(seed, episode) for seed, episode in self.episodes.items())]
        write_text(path, "\n".join(kept) + "\n")


def _line(seed: int, episode: Episode | None) -> str:
    if episode is None:
        return json.dumps({"seed": seed, "invalid": True})
    return json.dumps({"seed": seed, "row": episode.row.model_dump(), "scene": episode.scene, "detail": episode.detail})


def _parse(line: str) -> tuple[int, Episode | None]:
    content = json.loads(line)
    if content.get("invalid"):
        return int(content["seed"]), None
    row = Row.model_validate(content["row"])
    return int(content["seed"]), Episode(row, content["scene"], content["detail"])
