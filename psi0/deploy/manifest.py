"""What a bundle says about itself: `manifest.json`, and `SHA256SUMS` over every file.

A bundle is named by the SHA-256 of its `SHA256SUMS`: the same content has the same name everywhere. The signature is
not part of the content (signing twice gives two signatures).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from psi0.errors import Psi0Error
from psi0.files import folder_files, read_json, sha256_file, write_text

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
SIGNATURE = "signature.json"
GRAPHS = "graphs"

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Engine(_Record):
    """A compiled engine for one target. Only `executed` ones have been run on their device."""

    status: Literal["compiled", "executed", "absent"]
    reason: str = Field("", description="Why it is absent")


class System0(_Record):
    """The lower-body policy the bundle expects on the robot. Named, never contained: its wheel declares no licence."""

    package: str
    version: str
    file: str
    sha256: Hash


class GivenSystem0(_Record):
    """A lower-body policy that a user gave as files. Named, never contained: whoever deploys has them."""

    kind: Literal["amo"]
    files: dict[str, Hash] = Field(description="File -> SHA-256")


class Source(_Record):
    """Where the policy came from."""

    model: str = Field(description="Registered model")
    version: str = Field(description="Its version")
    git_commit: str
    git_dirty: bool
    policy_sha256: str
    graphs_sha256: Hash
    plan_sha256: str


class Evidence(_Record):
    """The gate's verdict, in short; the files are under `evidence/`."""

    verdict: str
    sentence: str
    episodes: int
    successes: int
    override: str = Field("", description="Who deployed it against the rule of promotion, and why")


class Manifest(_Record):
    """`manifest.json` of a bundle; paths are relative to the bundle."""

    schema_version: Literal[1] = 1
    task: str
    profile: str = Field(description="Profile of params.yaml it was made with: `tiny`, `paper`, ...")
    source: Source
    system0: System0 | GivenSystem0 = Field(description="The one that the policy was judged with")
    graphs: dict[str, Hash] = Field(description="ONNX file -> SHA-256")
    engines: dict[str, Engine] = Field(description="Target -> status")
    files: dict[str, str] = Field(description="Role -> file: limits, joint_map, control, latency, parity, params, lock")
    evidence: Evidence


def read_manifest(bundle: Path) -> Manifest:
    """Read a bundle's manifest. Raises `Psi0Error` for a folder that is no bundle or one of an unknown version."""
    path = bundle / MANIFEST
    if not path.exists():
        raise Psi0Error(f"{bundle} is no bundle: {MANIFEST} is missing; `psi0 bundle pull` fetches a whole one")
    return parse_manifest(read_json(path), str(path))


def parse_manifest(content: Any, where: str) -> Manifest:
    """Validate the content of a manifest. Raises `Psi0Error` naming `where` for another version or a wrong field."""
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise Psi0Error(
            f"{where}: schema_version {version!r} is unknown (this psi0 reads {SCHEMA_VERSION}); "
            "use the psi0 that made the bundle, or publish it anew"
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise Psi0Error(f"{where}: {field}: {first['msg']}; fetch the bundle again") from None


def write_sums(bundle: Path) -> str:
    """Write `SHA256SUMS` over every file of the bundle; returns the bundle's name, the SHA-256 of that file."""
    lines = [
        f"{sha256_file(bundle / file)}  {file.as_posix()}\n"
        for file in folder_files(bundle)
        if file.as_posix() not in (SUMS, SIGNATURE)
    ]
    text = "".join(lines)
    write_text(bundle / SUMS, text)
    return hashlib.sha256(text.encode()).hexdigest()


def parse_sums(text: str, where: str) -> dict[str, str]:
    """File -> SHA-256 of the text of a `SHA256SUMS`. Raises `Psi0Error` for what leaves the bundle or is not a line."""
    sums: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None or match[2] in sums:
            raise Psi0Error(f"{where}/{SUMS}: {line!r:.80} is not a line of it; fetch the bundle again")
        if match[2].startswith("/") or ".." in Path(match[2]).parts or "\\" in match[2]:
            raise Psi0Error(f"{where}/{SUMS}: {match[2]!r} leads out of the bundle; do not use it")
        sums[match[2]] = match[1]
    if MANIFEST not in sums:
        raise Psi0Error(f"{where}/{SUMS} does not list {MANIFEST}; fetch the bundle again")
    return sums


def compare(expected: Mapping[str, str], found: Mapping[str, str], where: str) -> None:
    """Compare files and their SHA-256 with what `SHA256SUMS` lists. Raises `Psi0Error` naming every difference."""
    own = found.keys() - {SUMS, SIGNATURE}
    problems = [f"{name} was changed" for name in sorted(expected.keys() & own) if expected[name] != found[name]]
    problems += _differences(expected, own)
    _refuse(problems, where)


def compare_names(expected: Iterable[str], found: Iterable[str], where: str) -> None:
    """`compare` for the names alone."""
    _refuse(_differences(set(expected), set(found) - {SUMS, SIGNATURE}), where)


def _differences(expected: Iterable[str], found: Iterable[str]) -> list[str]:
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    return [f"{name} is missing" for name in missing] + [f"{name} does not belong to it" for name in extra]


def _refuse(problems: list[str], where: str) -> None:
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        remedy = "delete what lies there and publish the version again" if "://" in where else "fetch it again"
        raise Psi0Error(f"{where} is not the bundle that was published: {shown}. Do not use it; {remedy}")
