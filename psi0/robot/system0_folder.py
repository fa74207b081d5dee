"""Which System-0 a robot folder holds: the walking policy of the pinned package, or AMO's files beside the model."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from psi0.errors import Psi0Error
from psi0.files import read_json, sha256_file, write_bytes, write_json
from psi0.params import WALKING
from psi0.robot.amo import AmoPolicy
from psi0.robot.amo_networks import AMO_FILES
from psi0.robot.assets import system0_identity
from psi0.robot.system0 import System0, WalkingPolicy

SYSTEM0_FOLDER = "system0"
RECORD_FILE = "system0.json"


class System0Record(BaseModel):
    """`system0/system0.json` of a robot folder, there only when System-0 is not the walking policy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    kind: Literal["amo"] = "amo"
    files: dict[str, str] = Field(description="File -> SHA-256")


def put_system0(choice: str, robot_folder: Path) -> dict[str, object]:
    """Put the System-0 that `robot.system0` names into a robot folder and return how the manifest names it.

    Nothing is written for the walking policy.

    Raises:
        Psi0Error: the folder or one of its files is missing, or they are not AMO's.
    """
    if choice == WALKING:
        return dict(system0_identity())
    source, target = Path(choice), robot_folder / SYSTEM0_FOLDER
    if not source.is_dir():
        raise Psi0Error(
            f"robot.system0 is {choice!r}, which is no folder; write {WALKING}, or a folder with {', '.join(AMO_FILES)}"
        )
    AmoPolicy(source)
    for name in AMO_FILES:
        write_bytes(target / name, (source / name).read_bytes())
    record = System0Record(files={name: sha256_file(target / name) for name in AMO_FILES})
    write_json(target / RECORD_FILE, record.model_dump(mode="json"))
    return {"kind": record.kind, "files": record.files}


def read_system0(path: Path) -> System0Record:
    """Read `system0.json`. Raises `Psi0Error` when it is missing, broken or of another version."""
    try:
        return System0Record.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "its content"
        raise Psi0Error(f"{path}: {field}: {first['msg']}; `dvc repro -f robot` rebuilds it") from None


def load_system0(robot_folder: Path) -> System0:
    """The System-0 of a robot folder.

    Raises:
        Psi0Error: the walking policy's package is missing; or AMO's files are missing, altered or broken.
    """
    folder = robot_folder / SYSTEM0_FOLDER
    if not folder.exists():
        return WalkingPolicy()
    record = read_system0(folder / RECORD_FILE)
    if set(record.files) != set(AMO_FILES):
        raise Psi0Error(f"{folder / RECORD_FILE} does not list {', '.join(AMO_FILES)}; `dvc repro -f robot`")
    for name, expected in record.files.items():
        path = folder / name
        if not path.is_file():
            raise Psi0Error(f"{path} is missing; `dvc repro -f robot` copies it again")
        if sha256_file(path) != expected:
            raise Psi0Error(f"{path} was altered: its sha256 is not the recorded one; `dvc repro -f robot`")
    return AmoPolicy(folder)
