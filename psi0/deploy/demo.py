"""`psi0 demo`: a bundle plays an episode in the simulator, and you watch it."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from psi0 import paths
from psi0.deploy.manifest import read_manifest
from psi0.deploy.publish import CHANNEL
from psi0.deploy.pull import pull
from psi0.deploy.verify import verify_folder
from psi0.errors import Psi0Error
from psi0.params import load_params


@dataclass(frozen=True)
class Demo:
    """An episode that was played: how it ended, and where its video lies."""

    bundle: Path
    video: Path
    success: bool
    tag: str
    steps: int


def find_bundle(address: str | None, task: str, channel: str = CHANNEL) -> Path:
    """The verified folder of a bundle: a folder, an `s3://` address, or (None) the one that is deployed now.

    Raises:
        Psi0Error: there is none, it cannot be reached, or it is not whole or not signed by a trusted key.
    """
    if address is None or address.startswith("s3://"):
        return pull(address or task, channel=channel)
    verify_folder(Path(address))
    return Path(address)


def play(bundle: Path, seed: int, out: Path) -> Demo:
    """Play one episode with a bundle's own parameters and write its video (MP4).

    Raises:
        Psi0Error: the scene of this seed does not settle, or the bundle's graphs cannot be loaded.
    """
    from psi0.evaluate.verbs import evaluate_named
    from psi0.robot.stage import make_robot

    manifest, params = read_manifest(bundle), load_params(bundle / "params.yaml")
    if not (paths.ROBOT / "limits.json").exists():
        make_robot(params)
    with tempfile.TemporaryDirectory() as folder:
        seeds = f"{seed}:{seed + 1}"
        evaluation = evaluate_named(
            params, manifest.task, str(bundle.absolute()), seeds=seeds, workers=1, video=Path(folder)
        )
        films = sorted(Path(folder).glob("*.mp4"))
        if not evaluation.rows or not films:
            raise Psi0Error(f"seed {seed} gives no scene that comes to rest; try another --seed")
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(films[0], out)
    row = evaluation.rows[0]
    return Demo(bundle, out, row.success, row.tag, row.steps)
