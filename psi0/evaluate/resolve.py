"""From the name of a policy to something that acts.

Names: `demonstrator`, `script`, `zero`, `frozen`, `replay:FILE`, or the path of a graph folder, a policy folder, a
baseline's folder or a bundle. `models:/NAME@ALIAS` is looked up by the command line, which hands over the path it got.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from psi0.baselines.config import CONFIG_FILE as BASELINE_FILE
from psi0.baselines.config import KINDS as BASELINES
from psi0.baselines.config import BaselineConfig, baseline_sha256
from psi0.baselines.config import Kind as BaselineKind
from psi0.errors import Psi0Error
from psi0.evaluate.baselines import Frozen, Replay, Zero, read_actions
from psi0.evaluate.rollout import World
from psi0.files import sha256_folder, sha256_json
from psi0.lineage import fingerprint_code
from psi0.model.config import read_config
from psi0.model.manifest import check_manifest
from psi0.model.policy_config import LAYOUT_FILE, Layout
from psi0.policy import Policy

if TYPE_CHECKING:
    from psi0.sim.world import World as SimulatedWorld

Kind = Literal["demonstrator", "script", "zero", "frozen", "replay", "graphs", "weights"] | BaselineKind
REGISTRY_PREFIX = "models:/"


@dataclass(frozen=True)
class PolicySpec:
    """A policy by name, light enough to send to a worker; calling it with a world builds the policy."""

    kind: Kind
    sha256: str
    chunk: int
    source: str = ""
    graphs_sha256: str = ""
    limits: str = ""
    """Folder whose `layout.json` says what the robot may be asked for; empty takes the policy's own."""

    @property
    def privileged(self) -> bool:
        """Whether it reads the simulator's state."""
        return self.kind == "demonstrator"

    @property
    def thinks(self) -> bool:
        """Whether its answers take inference time; a script or a recording is ready at once."""
        return self.kind in ("graphs", "weights", *BASELINES)

    def __call__(self, world: World) -> Policy:
        """Build the policy for a world. Raises `Psi0Error` when it cannot be loaded."""
        if self.kind == "demonstrator":
            from psi0.sim.demonstrators import make_demonstrator

            return make_demonstrator(cast("SimulatedWorld", world))
        if self.kind == "script":
            from psi0.sim.script import make_script

            return make_script(cast("SimulatedWorld", world))
        if self.kind == "zero":
            return Zero(self.chunk)
        if self.kind == "frozen":
            return Frozen(self.chunk)
        if self.kind == "replay":
            return Replay(read_actions(self.source), self.chunk)
        if self.kind == "graphs":
            from psi0.export.runtime import GraphPolicy

            return GraphPolicy(Path(self.source))
        if self.kind in BASELINES:
            from psi0.baselines.player import load_player

            return load_player(Path(self.source))
        from psi0.model.policy_folder import load_policy
        from psi0.model.torch_policy import TorchPolicy

        parts = load_policy(Path(self.source))
        if self.limits:
            parts = replace(parts, layout=read_config(Path(self.limits) / LAYOUT_FILE, Layout))
        return TorchPolicy(parts)


def resolve(name: str, chunk: int, lookup: Callable[[str], Path] | None = None) -> PolicySpec:
    """The policy behind a name.

    Args:
        chunk: rows per answer of the policies that learned nothing.
        lookup: turns `models:/NAME@ALIAS` into a folder on this machine.

    Raises:
        Psi0Error: no such name, or a path that holds no policy.
    """
    if name.startswith(REGISTRY_PREFIX):
        if lookup is None:
            raise Psi0Error(f"{name}: the registry is not at hand here; name a folder instead")
        return from_folder(lookup(name), chunk)
    for kind in ("demonstrator", "script", "zero", "frozen"):
        if name == kind:
            return PolicySpec(kind, sha256_json({"policy": kind, "code": fingerprint_code("sim", "evaluate")}), chunk)
    if name.startswith("replay:"):
        source = name.removeprefix("replay:")
        actions = read_actions(source)
        return PolicySpec("replay", sha256_json({"replay": actions.tolist()}), chunk, source)
    return from_folder(Path(name), chunk)


def from_folder(folder: Path, chunk: int) -> PolicySpec:
    """The policy in a graph folder, a policy folder, a baseline's folder or a bundle.

    Raises:
        Psi0Error: there is none, or the graphs or the baseline there are broken.
    """
    if (folder / "graphs" / "s1_step.onnx").exists():
        folder = folder / "graphs"
    if (folder / "s1_step.onnx").exists():
        return graphs_spec(folder, chunk)
    if (folder / "system1.safetensors").exists():
        return PolicySpec("weights", sha256_folder(folder), chunk, str(folder))
    if (folder / BASELINE_FILE).exists():
        identity, config = baseline_sha256(folder), read_config(folder / BASELINE_FILE, BaselineConfig)
        return PolicySpec(config.kind, identity, config.horizon, str(folder))
    raise Psi0Error(
        f"{folder} is no policy: name demonstrator, script, zero, frozen, replay:FILE, models:/NAME@ALIAS, "
        "or the folder of exported graphs, of a policy, of a baseline or of a bundle"
    )


def graphs_spec(folder: Path, chunk: int) -> PolicySpec:
    """The policy in a graph folder. Raises `Psi0Error` when a file is missing or differs from the manifest."""
    policy_sha256 = str(check_manifest(folder)["policy_sha256"])
    return PolicySpec("graphs", policy_sha256, chunk, str(folder), graphs_sha256=sha256_folder(folder))


def torch_twin(folder: Path, graphs: PolicySpec) -> PolicySpec:
    """The torch policy that graphs were exported from: the same identity, so the same seeds, and the same limits.

    Raises:
        Psi0Error: the folder is missing, broken, or holds another policy.
    """
    policy_sha256 = str(check_manifest(folder)["policy_sha256"])
    if policy_sha256 != graphs.sha256:
        raise Psi0Error(
            f"{folder} holds policy {policy_sha256[:12]}, the graphs were exported from {graphs.sha256[:12]}; "
            "repeat the export (`dvc repro`), or set gate.compare_torch to false"
        )
    return PolicySpec("weights", policy_sha256, graphs.chunk, str(folder), graphs.graphs_sha256, graphs.source)
