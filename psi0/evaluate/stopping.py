"""When an arm ends: with the test that the plan registers for it, asked after every episode in the order of seeds."""

from collections.abc import Sequence

from psi0.evaluate.control_test import ControlTest
from psi0.evaluate.evidence import POLICY_ARM
from psi0.evaluate.sequential import Result, decide, floor_test
from psi0.params import Params


def consume(params: Params, task: str, arm: str, outcomes: Sequence[bool]) -> Result:
    """Run an arm's test on its outcomes; what comes after the decision is not looked at.

    The policy's own arm is accepted by the floor test. A control's `accept` means that it fails as it must; the counts
    in its path are failures. Raises `KeyError` for an arm that has neither.
    """
    if arm == POLICY_ARM:
        return decide(floor_test(params, task), outcomes)
    return decide(control_test(params, arm), [not success for success in outcomes])


def control_test(params: Params, arm: str) -> ControlTest:
    """The test of a control. Raises `KeyError` when it has no ceiling."""
    ceilings: dict[str, float] = {str(name): ceiling for name, ceiling in params.gate.control_ceilings.items()}
    return ControlTest(ceilings[arm], params.evaluation.control_episodes)
