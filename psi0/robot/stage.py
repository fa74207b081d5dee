"""Stage `robot`: the simulated robot of this project, from the pinned package."""

from psi0 import paths
from psi0.files import publish_folder, sha256_file, write_bytes, write_json
from psi0.params import Params
from psi0.robot.assets import ROBOT_PACKAGE, robot_files
from psi0.robot.layout import ALL_JOINTS
from psi0.robot.limits import LIMITS_FILE, limits_from
from psi0.robot.meshes import decimate
from psi0.robot.model import read_model
from psi0.robot.system0_folder import put_system0

_DETAILED = {"head_link": 5, "torso_link_rev_1_0": 3}
"""Meshes that fall apart when decimated as far as the rest keep this many times more faces."""


def make_robot(params: Params) -> None:
    """Write `data/robot`: model, decimated meshes, licence, `limits.json`, `manifest.json`, `metrics.json`.

    With AMO as System-0 its files and their checksums too, below `system0/`.

    Raises:
        Psi0Error: the asset packages are missing or altered, `robot.system0` is not usable, or the disk is full.
    """
    before = after = 0
    with publish_folder(paths.ROBOT) as folder:
        system0 = put_system0(params.robot.system0, folder)
        for name, source in robot_files().items():
            content = source.read_bytes()
            if source.suffix.upper() == ".STL":
                content, faces, kept = decimate(content, params.robot.faces_per_mesh * _DETAILED.get(source.stem, 1))
                before, after = before + faces, after + kept
            write_bytes(folder / name, content)
        joints = {joint.name: joint for joint in read_model(folder).joints}
        limits = limits_from(
            ranges={name: (float(joints[name].range[0]), float(joints[name].range[1])) for name in ALL_JOINTS},
            efforts={name: float(joints[name].actfrcrange[1]) for name in ALL_JOINTS},
        )
        write_json(folder / LIMITS_FILE, limits.model_dump(mode="json"))
        write_json(folder / "metrics.json", {"faces": after, "faces_of_the_original": before})
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        write_json(
            folder / "manifest.json",
            {
                "schema_version": 1,
                "source": {
                    "package": ROBOT_PACKAGE[0],
                    "version": ROBOT_PACKAGE[1],
                    "licence": "BSD-3-Clause",
                },
                "system0": system0,
                "files": {path.relative_to(folder).as_posix(): sha256_file(path) for path in files},
            },
        )
