"""The paired comparison of a candidate with the champion, against numbers computed by hand."""

import pytest

from psi0.errors import Psi0Error
from psi0.evaluate.paired import compare_paired
from psi0.evaluate.schemas import Row


def rows(outcomes: str, first: int = 700000) -> list[Row]:
    return [
        Row(seed=first + i, success=mark == "1", tag="", steps=1, qpos_sha256="", pixels_sha256="")
        for i, mark in enumerate(outcomes)
    ]


def test_equal_policies_are_not_worse() -> None:
    result = compare_paired(rows("1101"), rows("1101"), margin=0.05)
    assert (result.candidate_only, result.champion_only, result.p_worse, result.worse) == (0, 0, 1.0, False)


def test_worse_needs_chance_and_margin_both() -> None:
    # Seven seeds, all won by the champion alone: p = 1/128.
    assert compare_paired(rows("0" * 7 + "1" * 33), rows("1" * 40), margin=0.05).worse
    assert compare_paired(rows("0" * 7 + "1" * 33), rows("1" * 40), margin=0.05).p_worse == pytest.approx(
        1 / 128, abs=1e-6
    )
    # The same seven of many more: beyond chance, but within the margin.
    assert not compare_paired(rows("0" * 7 + "1" * 193), rows("1" * 200), margin=0.05).worse
    # Four seeds: p = 1/16, which happens by chance.
    assert not compare_paired(rows("0" * 4 + "1" * 6), rows("1" * 10), margin=0.05).worse


def test_wins_on_either_side_are_weighed() -> None:
    result = compare_paired(rows("11000"), rows("00111"), margin=0.05)
    assert (result.candidate_only, result.champion_only) == (2, 3)
    assert result.p_worse == 0.5
    assert result.difference == -0.2
    assert "not shown to be worse" in result.sentence()


def test_other_seeds_are_refused() -> None:
    with pytest.raises(Psi0Error, match="same seeds"):
        compare_paired(rows("11"), rows("11", first=700001), margin=0.05)
    with pytest.raises(Psi0Error, match="same seeds"):
        compare_paired([], [], margin=0.05)
