"""Which physics steps belong to a control step.

Physics runs at 250 Hz (4 ms) and System-0 at 50 Hz: every fifth physics step is a tick. A control step at
`policy_hz` begins at the physics step nearest to its due time, so at 30 Hz control steps last 8 or 9 physics steps
and never drift. Ticks keep their own rhythm: a new action reaches the robot with the next tick, at once when
`policy_hz` divides 50 (10, 25, 50), at most 20 ms late otherwise.
"""

from psi0.errors import Psi0Error
from psi0.robot.constants import TICK_HZ

PHYSICS_HZ = 250
STEPS_PER_TICK = PHYSICS_HZ // TICK_HZ


class ControlClock:
    """Physics steps of control steps. Raises `Psi0Error` when the rate exceeds System-0's."""

    def __init__(self, policy_hz: int) -> None:
        if not 1 <= policy_hz <= TICK_HZ:
            raise Psi0Error(f"control.policy_hz is {policy_hz}; the simulator takes 1 to {TICK_HZ} Hz, System-0's rate")
        self.policy_hz = policy_hz

    def begins(self, step: int) -> int:
        """Physics step at which a control step begins."""
        return (2 * step * PHYSICS_HZ + self.policy_hz) // (2 * self.policy_hz)

    @staticmethod
    def is_tick(physics_step: int) -> bool:
        """Whether System-0 acts before this physics step."""
        return physics_step % STEPS_PER_TICK == 0

    def share_done(self, physics_step: int, step: int) -> float:
        """Share of control step `step` that is over when the tick at `physics_step` ends, at most 1."""
        begin, end = self.begins(step), self.begins(step + 1)
        return min(1.0, (physics_step + STEPS_PER_TICK - begin) / (end - begin))
