"""Closed-loop rollouts, the registered plan, the gate and its report."""
