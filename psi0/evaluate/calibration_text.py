"""A calibration in words and Markdown tables, for a terminal and for `docs/gate.md` alike."""

from psi0.evaluate.calibration import Attempts, Calibration, Check, Rate


def describe(found: Calibration) -> str:
    """The whole of it: the test, what it does at each success rate, its rival, many attempts, controls, checks."""
    parts = [
        _headline(found),
        _rates(found),
        _rival(found),
        _attempts(found.attempts),
        _controls(found),
        _verdict(found),
    ]
    return "\n\n".join(part for part in parts if part)


def failures(found: Calibration) -> list[str]:
    """The checks that do not hold, in words."""
    return [_sentence(check) for check in found.checks if not check.holds]


def _headline(found: Calibration) -> str:
    if found.test == "fixed":
        kind = f"exact binomial test of p <= {found.p0} on {found.n_max} episodes"
    else:
        kind = f"sequential test of p <= {found.p0} against p >= {found.p1}, at most {found.n_max} episodes"
    return (
        f"{found.task}: {kind}; alpha {found.alpha}, beta {found.beta}; {found.runs:,} simulated policies per rate,"
        " errors are three standard errors"
    )


def _rates(found: Calibration) -> str:
    head = ["success rate", "promoted", "exact", "mean episodes", "95th percentile"]
    head += [f"fixed test of {found.rival.episodes}"] if found.rival else []
    return _table(head, [_rate(rate, found) for rate in found.rates])


def _rate(rate: Rate, found: Calibration) -> list[str]:
    name = {found.p0: " (p0)", found.p1: " (p1)"}.get(rate.success_rate, "")
    cells = [
        f"{rate.success_rate:.3f}{name}",
        f"{rate.promoted:.2%} +- {rate.error:.2%}",
        f"{rate.exact:.2%}",
        f"{rate.mean_episodes:.1f}",
        str(rate.p95_episodes),
    ]
    return cells + ([f"{rate.rival_promoted:.2%}"] if rate.rival_promoted is not None else [])


def _rival(found: Calibration) -> str:
    if found.rival is None:
        return ""
    mean = {rate.success_rate: rate.mean_episodes for rate in found.rates}
    saved = [
        f"{found.rival.episodes - mean[rate]:.1f} fewer at {name} ({1 - mean[rate] / found.rival.episodes:.0%})"
        for name, rate in (("p0", found.p0), ("p1", found.p1))
    ]
    return (
        f"The exact binomial test of at least this power needs {found.rival.episodes} episodes "
        f"({found.rival.successes_needed} successes): false promotion {found.rival.false_promotion:.2%}, "
        f"power {found.rival.power:.2%}. The sequential one takes, on average, {' and '.join(saved)}."
    )


def _attempts(attempts: list[Attempts]) -> str:
    rows = [[str(one.candidates), f"{one.promoted:.1%} +- {one.error:.1%}", f"{one.exact:.1%}"] for one in attempts]
    return _table(["candidates at p0", "at least one promoted", "exact"], rows)


def _controls(found: Calibration) -> str:
    rows = [
        [
            name,
            f"{one.ceiling:.2f}",
            f"{one.most_successes} of {one.episodes}" if one.most_successes >= 0 else "never",
            f"{one.clear_after} episodes" if one.clear_after else "never",
            f"{one.wrongly_held:.2%}",
        ]
        for name, one in found.controls.items()
    ]
    head = ["control", "ceiling", "holds with", "never succeeding, holds after", "at its ceiling, holds"]
    return _table(head, rows) if rows else ""


def _verdict(found: Calibration) -> str:
    broken = failures(found)
    if broken:
        return "FAILED: " + "; ".join(broken)
    return f"All {len(found.checks)} checks hold: {'; '.join(_sentence(check) for check in found.checks[:4])}."


def _sentence(check: Check) -> str:
    return f"{check.name} {_number(check.value)} ({check.relation} {_number(check.limit)})"


def _number(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.4f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|"
    return "\n".join([line(head), rule, *(line(row) for row in rows)])
