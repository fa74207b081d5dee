"""The final report of a version: the gate's report again, with what only the registry knows."""

import tempfile
from pathlib import Path

from mlflow import MlflowClient

from psi0.connection import connect
from psi0.evaluate.gate import numbered
from psi0.evaluate.origin import ORIGIN_FILE, Origin
from psi0.evaluate.report import Beside, Registered, write_report
from psi0.evaluate.schemas import read_record
from psi0.files import read_json
from psi0.registry.attempts import number_of
from psi0.registry.comparison import Comparison
from psi0.registry.evidence_files import StoredEvidence
from psi0.registry.judgement import judge_again
from psi0.registry.promotion_files import REPORT, keep_file
from psi0.registry.rule import Standing
from psi0.registry.tracking import explained
from psi0.registry.versions import Version


def keep_report(
    client: MlflowClient, standing: Standing, stored: StoredEvidence, bundle: str, override: str = ""
) -> None:
    """Write the report of a version that is about to be promoted and put it with the version.

    Args:
        stored: the whole of the version's evidence.
        bundle: address of its bundle.
        override: who promotes it against the rule, and why.
    """
    version, evidence = standing.version, stored.folder
    judged = judge_again(evidence, version.task, stored.graph_hashes)
    attempt = number_of(version)
    verdict = numbered(judged.recomputed, attempt) if attempt else judged.recomputed
    origin = evidence / "gate" / ORIGIN_FILE
    registered = Registered(
        version=version.label,
        beside=_beside(standing.comparison) if standing.comparison else None,
        latency=read_json(evidence / "latency.json"),
        override=override,
        addresses={**_pages(client, version), "bundle": bundle},
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / REPORT
        write_report(
            file,
            verdict,
            judged.evidence,
            judged.params,
            evidence / "evaluation" / "videos",
            read_record(Origin, origin) if origin.exists() else None,
            registered,
        )
        keep_file(client, version, file)


def _pages(client: MlflowClient, version: Version) -> dict[str, str]:
    """Pages of MLflow about the version and the run that it came from."""
    with explained(f"finding the run of {version.label}"):
        experiment = client.get_run(version.run_id).info.experiment_id
    page = f"{connect().mlflow_uri}/#"
    return {
        "version": f"{page}/models/{version.name}/versions/{version.number}",
        "run": f"{page}/experiments/{experiment}/runs/{version.run_id}",
    }


def _beside(comparison: Comparison) -> Beside:
    return Beside(
        champion=f"version {comparison.champion.version}",
        episodes=len(comparison.pairs),
        candidate_successes=sum(pair.candidate for pair in comparison.pairs),
        champion_successes=sum(pair.champion for pair in comparison.pairs),
        sentence=comparison.sentence,
    )
