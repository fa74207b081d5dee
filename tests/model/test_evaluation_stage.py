"""The stages `evaluate` and `gate` on exported graphs: the same bytes twice, whatever the number of workers."""

from pathlib import Path

import pytest

from psi0 import paths
from psi0.evaluate.schemas import Evaluation, GateFile, read_record
from psi0.evaluate.stage import evaluate_policy, judge
from psi0.evaluate.verbs import check_verdict
from psi0.export.stage import export_folder
from psi0.files import sha256_folder
from psi0.model.policy_folder import PolicyFolder, save_policy
from psi0.params import Export, parse_params

PLAN = {"control_episodes": 1, "videos": 1, "workers": 2}


@pytest.fixture
def here(here: Path, policy: PolicyFolder) -> Path:
    """A folder with the robot, an untrained policy and its exported graphs."""
    save_policy(here / paths.policy("pick_can"), policy)
    export_folder(here / paths.policy("pick_can"), here / paths.graphs("pick_can"), Export())
    return here


@pytest.mark.long
def test_an_untrained_policy_is_refused_with_the_same_bytes_twice(here: Path) -> None:
    hashes = []
    for workers, home in ((2, "first"), (1, "second")):
        params = parse_params(
            {"evaluation": PLAN | {"workers": workers}, "gate": {"n_max": 2, "compare_torch": True}}, "test"
        )
        evaluate_policy(params, "pick_can")
        judge(params, "pick_can")
        hashes.append((sha256_folder(paths.evaluation("pick_can")), sha256_folder(paths.gate("pick_can"))))
        (here / ".psi0").rename(here / home)
    assert hashes[0] == hashes[1]
    evaluation = read_record(Evaluation, paths.evaluation("pick_can") / "policy.json")
    assert evaluation.policy == "graphs" and evaluation.delay_steps == 2 and evaluation.summary.successes == 0
    verdict = read_record(GateFile, paths.gate("pick_can") / "gate.json")
    assert verdict.verdict == "refuse" and verdict.floor is not None and verdict.parity is not None
    assert verdict.torch is not None and verdict.torch.episodes == 2 and verdict.torch.holds
    assert check_verdict(params, "pick_can") == verdict
