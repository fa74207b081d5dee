"""The state-only probe: what a predictor without eyes and ears can know."""

import numpy as np
import pytest

from psi0.train.state_probe import nearest, ridge, state_only_error


def draw(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 4)).astype(np.float32)


def test_actions_that_follow_from_the_state_are_found() -> None:
    known, unseen = draw(800, 0), draw(200, 1)
    weights = np.random.default_rng(2).normal(size=(4, 6)).astype(np.float32)
    assert state_only_error(known, known @ weights + 3, unseen, unseen @ weights + 3) < 0.02

    def bent(states: np.ndarray) -> np.ndarray:
        return np.abs(states[:, :1]).repeat(3, axis=1)

    error = state_only_error(known, bent(known), unseen, bent(unseen))
    assert error < 0.6 * bent(unseen).std(), "no line fits these, neighbours do"


def test_actions_that_hang_on_what_is_seen_are_not() -> None:
    known, unseen, source = draw(800, 0), draw(200, 1), np.random.default_rng(3)
    seen, seen_later = source.normal(size=(800, 6)).astype(np.float32), source.normal(size=(200, 6)).astype(np.float32)
    assert state_only_error(known, seen, unseen, seen_later) == pytest.approx(seen_later.std(), rel=0.05)


def test_the_predictors_by_hand() -> None:
    states = np.array([[0.0], [1.0], [2.0]], np.float32)
    assert nearest(states, states * 10, np.array([[1.9]], np.float32)) == pytest.approx(10.0), "all three are averaged"
    many = np.repeat(states, 8, axis=0)
    assert nearest(many, many * 10, np.array([[1.9], [-5.0]], np.float32)).ravel() == pytest.approx([20.0, 0.0])
    assert ridge(states, states * 10 + 1, np.array([[4.0]], np.float32)) == pytest.approx(41.0, rel=0.01)
