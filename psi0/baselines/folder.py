"""The folder of a baseline, under one manifest: enough to act anywhere.

Files: `baseline.json`, `baseline.safetensors` (weights, or demonstrations), `normalizer.json`, `layout.json`,
`lineage.json`, `manifest.json`. Metrics and curves may lie beside them.
"""

from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from psi0.baselines.config import CONFIG_FILE, TENSORS_FILE, BaselineConfig
from psi0.files import read_json, write_json
from psi0.lineage import Lineage, read_lineage, write_lineage
from psi0.model.config import read_config, write_config
from psi0.model.manifest import check_manifest, write_manifest
from psi0.model.normalizer import Normalizer
from psi0.model.policy_config import LAYOUT_FILE, NORMALIZER_FILE, Layout, policy_sha256
from psi0.model.system1 import read_tensors


@dataclass
class Baseline:
    """A baseline's parts in memory; `tensors` are a network's weights, or what `psi0.baselines.nearest` compares."""

    config: BaselineConfig
    tensors: dict[str, Tensor]
    normalizer: Normalizer
    layout: Layout
    lineage: Lineage


def save_baseline(folder: Path, baseline: Baseline) -> None:
    """Write all files and then the manifest into `folder` (typically inside `files.publish_folder`)."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in baseline.tensors.items()}, folder / TENSORS_FILE)
    write_config(folder / CONFIG_FILE, baseline.config)
    write_config(folder / LAYOUT_FILE, baseline.layout)
    write_json(folder / NORMALIZER_FILE, baseline.normalizer.to_json())
    write_lineage(folder, baseline.lineage)
    write_manifest(folder, policy_sha256=policy_sha256(folder))


def load_baseline(folder: Path) -> Baseline:
    """Read and check a baseline's folder.

    Raises:
        Psi0Error: no manifest, a missing file, a changed byte, another schema version.
    """
    check_manifest(folder)
    return Baseline(
        config=read_config(folder / CONFIG_FILE, BaselineConfig),
        tensors=read_tensors(folder / TENSORS_FILE, "restore or rebuild the folder", "restore or rebuild the folder"),
        normalizer=Normalizer.from_json(read_json(folder / NORMALIZER_FILE), str(folder / NORMALIZER_FILE)),
        layout=read_config(folder / LAYOUT_FILE, Layout),
        lineage=read_lineage(folder),
    )
