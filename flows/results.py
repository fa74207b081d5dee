"""How stages ended, and how long each took when it was last built in this workspace."""

from dataclasses import dataclass
from typing import Literal

from flows.workspace import recipe_folder
from psi0.files import read_json, write_json

Outcome = Literal["built", "restored", "up to date"]


@dataclass(frozen=True)
class Result:
    """How a stage ended: what happened, and how long it took [minutes]."""

    stage: str
    outcome: Outcome
    minutes: float


def remember_minutes(stage: str, minutes: float) -> None:
    """Note how long a stage took."""
    known = last_minutes()
    write_json(recipe_folder() / "minutes.json", {**known, stage: round(minutes, 3)})


def last_minutes() -> dict[str, float]:
    """Minutes that each stage took when it was last built in this workspace."""
    path = recipe_folder() / "minutes.json"
    return read_json(path) if path.exists() else {}
