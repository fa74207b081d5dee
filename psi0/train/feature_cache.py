"""Hidden states of a frozen System-2, computed once per frame and kept on disk: what every step would compute again.

`<home>/features/<key>/` holds one raw float32 file per rank that computed it and `features.json` (shape, a checksum per
file, what the key is made of); the folder gets its name last, so that a crash leaves nothing that is read. A folder
that does not match its record is built again. Collectives: `load_or_build` is called by all ranks.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from psi0.errors import Psi0Error
from psi0.files import fsync_path, read_json, reason, sha256_file, sha256_json, write_json
from psi0.train.checkpoint import forget_other_runs
from psi0.train.team import Team

RECORD = "features.json"
ROWS_AT_ONCE = 32
"""Frames encoded together. Always the same ones, so that the number of ranks changes no bit."""

OTHERS_KEPT = 3
"""Caches of other data or weights that stay when a new one is written, the newest."""

Encode = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Rows of a dataset -> their hidden states `(n, length, hidden)`."""


class Part(BaseModel):
    """One file of a cache."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(description="Name in the folder")
    rows: int = Field(ge=1, description="Frames in it")
    sha256: str = Field(description="Checksum")


class Record(BaseModel):
    """`features.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = Field(description="Version of this record's layout")
    made_from: dict[str, str] = Field(description="What the key is the hash of")
    length: int = Field(ge=1, description="Tokens per frame")
    hidden_size: int = Field(ge=1, description="Numbers per token")
    parts: list[Part] = Field(min_length=1, description="Files in the order of their rows")


class Features:
    """Hidden states by row of the dataset, read from disk as they are asked for."""

    def __init__(self, folder: Path, record: Record) -> None:
        shape = (record.length, record.hidden_size)
        self._parts = [
            np.memmap(folder / part.file, np.float32, "r", shape=(part.rows, *shape)) for part in record.parts
        ]
        self._ends = np.cumsum([part.rows for part in record.parts])

    def __len__(self) -> int:
        """Frames."""
        return int(self._ends[-1])

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Hidden states `(n, length, hidden)`."""
        found = np.empty((len(rows), *self._parts[0].shape[1:]), np.float32)
        places = np.searchsorted(self._ends, rows, side="right")
        for place in np.unique(places):
            mine = places == place
            found[mine] = self._parts[place][rows[mine] - (self._ends[place] - len(self._parts[place]))]
        return found


def load_or_build(
    home: Path,
    made_from: Mapping[str, str],
    shape: tuple[int, int, int],
    encode: Encode,
    team: Team,
    say: Callable[[str], None],
    limit_gib: float,
) -> Features:
    """The features of a dataset, from disk where they lie there whole. Collective.

    Args:
        home: folder of all caches.
        made_from: everything that a bit of them depends on.
        shape: frames, tokens per frame, numbers per token.
        encode: computes them.
        team: the ranks, each of which computes its share.
        say: tells a person; the size is said before anything is written.
        limit_gib: largest size of a cache [GiB].

    Raises:
        Psi0Error: on all ranks, when they are larger than the limit or a rank cannot write.
    """
    made_from = dict(made_from) | {"shape": str(shape)}
    folder = home / sha256_json(made_from)[:24]
    if not _is_whole(folder, team, say):
        size = 4 * int(np.prod(shape, dtype=np.int64))
        said = (
            f"features of System-2: {size / (1 << 30):.3f} GiB ({shape[0]} frames of {shape[1]} x {shape[2]} numbers)"
        )
        if size > limit_gib * (1 << 30):
            raise Psi0Error(
                f"{said} exceed PSI0_FEATURE_CACHE_GIB {limit_gib:g}; raise it, point PSI0_HOME to a larger disk,"
                " or set cache_features to false"
            )
        say(f"{said}, written once to {folder}")
        _build(folder, made_from, shape, encode, team)
    return Features(folder, _read(folder))


def _read(folder: Path) -> Record:
    try:
        return Record.model_validate(read_json(folder / RECORD))
    except ValidationError as error:
        raise Psi0Error(f"{folder / RECORD}: not a record of features ({error.errors()[0]['msg']})") from None


def _is_whole(folder: Path, team: Team, say: Callable[[str], None]) -> bool:
    """Whether rank 0 finds every file as its record says; the others take its word. Collective."""
    whole = False
    if team.leads and folder.is_dir():
        try:
            for part in _read(folder).parts:
                if not (folder / part.file).is_file() or sha256_file(folder / part.file) != part.sha256:
                    raise Psi0Error(f"{folder / part.file} is missing or does not match its checksum")
            whole = True
        except Psi0Error as error:
            say(f"features of System-2 are computed again: {error}")
    return team.agree(whole)


def _build(folder: Path, made_from: dict[str, str], shape: tuple[int, int, int], encode: Encode, team: Team) -> None:
    partial = folder.with_name(f".{folder.name}.partial")

    def begin() -> None:
        if team.leads:
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
            partial.mkdir(parents=True)

    # Whole blocks per rank: the same frames are encoded together whatever the number of ranks.
    blocks = -(-shape[0] // ROWS_AT_ONCE)
    edges = [min(shape[0], ROWS_AT_ONCE * (blocks * rank // team.ranks)) for rank in range(team.ranks)] + [shape[0]]
    start, end = edges[team.rank], edges[team.rank + 1]

    def compute() -> None:
        if start == end:
            return
        file = partial / f"{team.rank:05d}.raw"
        with file.open("wb") as target:
            # Space that is missing is said now, not after hours of computing.
            os.posix_fallocate(target.fileno(), 0, 4 * (end - start) * shape[1] * shape[2])
            for first in range(start, end, ROWS_AT_ONCE):
                target.write(encode(np.arange(first, min(first + ROWS_AT_ONCE, end))).tobytes())
        fsync_path(file)
        part = Part(file=file.name, rows=end - start, sha256=sha256_file(file))
        write_json(partial / f"{team.rank:05d}.json", part.model_dump())

    def seal() -> None:
        if team.leads:
            parts = [Part.model_validate(read_json(file)) for file in sorted(partial.glob("*.json"))]
            for file in partial.glob("*.json"):
                file.unlink()
            record = Record(schema_version=1, made_from=made_from, length=shape[1], hidden_size=shape[2], parts=parts)
            write_json(partial / RECORD, record.model_dump())
            partial.rename(folder)
            fsync_path(folder.parent)
            forget_other_runs(folder.parent, folder.name, OTHERS_KEPT)

    for action in (begin, compute, seal):
        team.raise_together(_problem(partial, action))


def _problem(partial: Path, action: Callable[[], None]) -> str | None:
    try:
        action()
    except (OSError, Psi0Error) as error:
        with suppress(OSError):
            shutil.rmtree(partial)
        said = reason(error) if isinstance(error, OSError) else str(error)
        return f"{partial.parent}: the features of System-2 cannot be written ({said}); or set cache_features to false"
    return None
