"""Play the episodes of a comparison: candidate and champion, as exported graphs, on the candidate's fresh seeds."""

import math
from itertools import islice

from mlflow import MlflowClient

from psi0.errors import Psi0Error
from psi0.evaluate.evaluation import Arrangement, evaluate
from psi0.evaluate.resolve import PolicySpec, from_folder
from psi0.evaluate.schemas import Evaluation, read_record
from psi0.evaluate.validity import MAX_INVALID_SHARE
from psi0.params import Params, load_params
from psi0.registry.comparison import Comparison, compare, fresh_seeds
from psi0.registry.evidence_files import StoredEvidence
from psi0.registry.rule import fetched, side
from psi0.registry.versions import Version


def play_against(client: MlflowClient, candidate: Version, champion: Version) -> Comparison:
    """Compare a version with the champion, both under the candidate's parameters and in the simulator as it is now.

    Finished episodes are kept: an interrupted comparison goes on where it stopped.

    Raises:
        Psi0Error: a version's graphs are not those that its tags name, or the episodes cannot be run.
    """
    with fetched(client, candidate) as ours, fetched(client, champion) as theirs:
        if ours is None or theirs is None:
            missing = candidate if ours is None else champion
            raise Psi0Error(f"{missing.label} has no evidence to play with; register it with the recipe")
        params = load_params(ours.folder / "params.yaml")
        judged = read_record(Evaluation, ours.folder / "evaluation" / "policy.json")
        new, old = (_spec(stored, version, params) for stored, version in ((ours, candidate), (theirs, champion)))
        wanted = params.promote.episodes
        # Spares for scenes that do not settle; they do not settle for either.
        seeds = list(islice(fresh_seeds(judged), math.ceil(wanted * (1 + 2 * MAX_INVALID_SHARE))))
        arms = [Arrangement(name, spec, "none", wanted, seeds=seeds) for name, spec in (("new", new), ("old", old))]
        played = evaluate(params, candidate.task, arms, videos=0)
        first, second = played["new"].evaluation, played["old"].evaluation
    return compare(
        side(candidate), side(champion), judged, (first.rows, second.rows), first.invalid_seeds, params.promote
    )


def _spec(stored: StoredEvidence, version: Version, params: Params) -> PolicySpec:
    spec = from_folder(stored.folder / "graphs", params.control.chunk)
    if (spec.sha256, spec.graphs_sha256) != (version.tags.get("policy_sha256"), version.tags.get("graphs_sha256")):
        raise Psi0Error(
            f"{version.label}: its graphs are not those that its tags name; somebody changed one of them, so register "
            "the policy anew"
        )
    return spec
