"""`psi0 demo`: a bundle plays an episode in the simulator, and you watch it."""

from dataclasses import dataclass
from pathlib import Path

from psi0 import paths
from psi0.deploy.manifest import read_manifest
from psi0.deploy.publish import CHANNEL
from psi0.deploy.pull import pull
from psi0.deploy.verify import verify_folder
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
        Psi0Error: a seed that is not for evaluation or whose scene does not settle, or graphs that cannot be loaded.
    """
    from psi0.evaluate.plan import seed_range
    from psi0.robot.stage import make_robot
    from psi0.watch import play as watch

    manifest, params = read_manifest(bundle), load_params(bundle / "params.yaml")
    seed_range(f"{seed}:{seed + 1}")
    if not (paths.ROBOT / "limits.json").exists():
        make_robot(params)
    played = watch.play(params, manifest.task, seed, str(bundle.absolute()), out)
    return Demo(bundle, played.video, played.success, played.tag, played.steps)
