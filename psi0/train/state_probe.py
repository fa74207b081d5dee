"""How much of the actions the robot's state alone gives away: a policy that is no better has not used its eyes."""

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 8
RIDGE = 1e-3
"""Weight of the penalty, per training sample, on normalised states."""
_BLOCK = 512

Rows = NDArray[np.float32]


def state_only_error(states: Rows, chunks: Rows, unseen_states: Rows, unseen_chunks: Rows) -> float:
    """Root mean square error of the better of two predictors that see the state and nothing else.

    Ridge regression, which is linear, and the mean of the nearest training samples, which is not. The better one is
    chosen on the held-out samples themselves, in favour of the probe.

    Args:
        states: training states `(n, 32)`, normalised.
        chunks: their chunks `(n, numbers)`, normalised, without the numbers that do not count.
        unseen_states: held-out states `(m, 32)`.
        unseen_chunks: their chunks `(m, numbers)`.
    """
    answers = (ridge(states, chunks, unseen_states), nearest(states, chunks, unseen_states))
    return min(float(np.sqrt(np.mean((answer - unseen_chunks) ** 2))) for answer in answers)


def ridge(states: Rows, chunks: Rows, unseen: Rows) -> Rows:
    """Linear regression with a constant, penalised: predicted chunks `(m, numbers)`."""
    center, mean = states.mean(axis=0), chunks.mean(axis=0)
    x = (states - center).astype(np.float64)
    gram = x.T @ x + RIDGE * len(x) * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x.T @ (chunks - mean))
    return ((unseen - center) @ weights + mean).astype(np.float32)


def nearest(states: Rows, chunks: Rows, unseen: Rows) -> Rows:
    """Mean over the training samples of the nearest states: predicted chunks `(m, numbers)`."""
    count = min(NEIGHBOURS, len(states))
    lengths = (states**2).sum(axis=1)
    answers = np.empty((len(unseen), chunks.shape[1]), np.float32)
    for start in range(0, len(unseen), _BLOCK):
        block = unseen[start : start + _BLOCK]
        # The block's own lengths shift every distance of a row alike, so they change no neighbour.
        distances = lengths - 2 * (block @ states.T)
        closest = np.argpartition(distances, count - 1, axis=1)[:, :count]
        answers[start : start + _BLOCK] = chunks[closest].mean(axis=1)
    return answers
