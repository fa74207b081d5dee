"""From `models:/NAME@ALIAS` or `models:/NAME/VERSION` to a folder on this machine."""

import re
from pathlib import Path

from psi0.errors import Psi0Error
from psi0.evaluate.schemas import GateFile, read_record
from psi0.files import publish_folder
from psi0.model.manifest import check_manifest
from psi0.registry.tracking import open_tracking
from psi0.registry.versions import EVIDENCE, download_evidence, find_version
from psi0.settings import settings

_ADDRESS = re.compile(r"models:/psi0-(?P<task>\w+)(?:@(?P<alias>[\w-]+)|/(?P<number>\d+))")


def fetch_policy(address: str) -> Path:
    """Fetch the graphs of a registered policy, once per version, and return their folder.

    Raises:
        Psi0Error: not such an address, no such version, its evidence was changed or is for another task, or the
            registry does not answer.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise Psi0Error(f"{address!r}: write models:/psi0-TASK@ALIAS or models:/psi0-TASK/VERSION")
    client = open_tracking()
    version = find_version(client, match["task"], match["alias"] or match["number"])
    # Named by its run as well: after a registry was begun anew, the same number is another policy.
    folder = settings().home / "models" / version.name / f"{version.number}-{version.run_id[:12]}"
    if not folder.exists():
        with publish_folder(folder) as staging:
            evidence = download_evidence(client, version, staging)
            check_manifest(evidence)
            judged = read_record(GateFile, evidence / "gate" / "gate.json").task
            if judged != version.task:
                raise Psi0Error(
                    f"{version.label} holds a policy for {judged!r}; it was registered under the wrong task"
                )
    return folder / EVIDENCE / "graphs"
