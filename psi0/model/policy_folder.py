"""The policy folder: everything a policy needs to run anywhere without this repository, under one manifest.

Files: `system2.safetensors|json`, `system1.safetensors|json`, `config.json` (control rates, sampler),
`normalizer.json`, `layout.json`, `text_tokenizer.json`, FAST's files under `fast/`, `lineage.json`, `manifest.json`.
"""

from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Tokenizer

from psi0.files import read_json, write_bytes, write_json, write_text
from psi0.lineage import Lineage, read_lineage, write_lineage
from psi0.model import fast, text
from psi0.model.config import read_config, write_config
from psi0.model.manifest import check_manifest, write_manifest
from psi0.model.normalizer import Normalizer
from psi0.model.policy_config import (
    CONFIG_FILE,
    LAYOUT_FILE,
    NORMALIZER_FILE,
    Layout,
    PolicyConfig,
    policy_sha256,
)
from psi0.model.system1 import ActionExpert
from psi0.model.system2 import System2
from psi0.model.tokenizer_folder import FAST_FOLDER
from psi0.robot.layout import ACTION_NAMES, STATE_NAMES


@dataclass
class PolicyFolder:
    """A policy's parts in memory."""

    config: PolicyConfig
    system2: System2
    system1: ActionExpert
    normalizer: Normalizer
    tokenizer: Tokenizer
    lineage: Lineage
    layout: Layout = field(
        default_factory=lambda: Layout(schema_version=1, action_names=list(ACTION_NAMES), state_names=list(STATE_NAMES))
    )


def save_policy(folder: Path, policy: PolicyFolder, tokenizer_folder: Path | None = None) -> None:
    """Write all files and then the manifest into `folder` (typically inside `files.publish_folder`).

    Curves and metrics may be added beside them later: the manifest covers the files of the policy only.

    Args:
        folder: where to.
        policy: what to write.
        tokenizer_folder: `models/tokenizer`, whose FAST files are taken along.
    """
    folder.mkdir(parents=True, exist_ok=True)
    policy.system2.save(folder)
    policy.system1.save(folder)
    write_config(folder / CONFIG_FILE, policy.config)
    write_config(folder / LAYOUT_FILE, policy.layout)
    write_json(folder / NORMALIZER_FILE, policy.normalizer.to_json())
    write_lineage(folder, policy.lineage)
    write_text(folder / text.FILE, policy.tokenizer.to_str(pretty=True))
    if tokenizer_folder is not None:
        for file in (fast.TOKENIZER_FILE, fast.SETTINGS_FILE):
            write_bytes(folder / FAST_FOLDER / file, (tokenizer_folder / FAST_FOLDER / file).read_bytes())
    write_manifest(folder, policy_sha256=policy_sha256(folder))


def load_policy(folder: Path) -> PolicyFolder:
    """Read and check a policy folder.

    Raises:
        Psi0Error: no manifest, a missing file, a changed byte, another schema version.
    """
    check_manifest(folder)
    return PolicyFolder(
        config=read_config(folder / CONFIG_FILE, PolicyConfig),
        system2=System2.load(folder),
        system1=ActionExpert.load(folder),
        normalizer=Normalizer.from_json(read_json(folder / NORMALIZER_FILE), str(folder / NORMALIZER_FILE)),
        tokenizer=text.load_text_tokenizer(folder / text.FILE),
        lineage=read_lineage(folder),
        layout=read_config(folder / LAYOUT_FILE, Layout),
    )
