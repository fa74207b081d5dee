"""What became of the three policies, as the page of the docs that shows it."""

from dataclasses import dataclass

from psi0.evaluate.schemas import GateFile

_HEAD = """# Three policies before the gate

`python -m benchmarks.gate_proof` made this page: in a checkout of its own it sends three policies for `{task}` through
the whole path (export, evaluation, gate, registry) under one plan, `{plan}`.

- **untrained**: every training stage takes one step, so the weights stay where their seed put them.
- **mean demonstration**: `psi0 export mean-demonstration {task}` puts the mean of all demonstrations into graphs with
  the names, inputs and outputs of a trained policy's. They look at no image; where they are they know from the actions
  that they promised last.
- **trained**: the policy that `make recipe` built.

| Policy | Verdict | Success | Reasons | Registry |
|---|---|---|---|---|
{rows}

Controls (successes of episodes; each must stay below its ceiling):

| Policy | {names} |
|---|{rule}
{controls}
"""


@dataclass(frozen=True)
class Line:
    """One policy's verdict, and what the registry made of it."""

    name: str
    gate: GateFile
    version: str
    aliases: tuple[str, ...]
    minutes: float


def render(task: str, lines: list[Line]) -> str:
    """The page."""
    names = sorted({name for line in lines for name in line.gate.controls})
    return _HEAD.format(
        task=task,
        plan=lines[0].gate.plan_sha256[:12],
        rows="\n".join(_row(line) for line in lines),
        names=" | ".join(names),
        rule="---|" * len(names),
        controls="\n".join(_controls(line, names) for line in lines),
    )


def _row(line: Line) -> str:
    floor = line.gate.floor
    success = "–"
    if floor is not None:
        success = (
            f"{floor.successes} of {floor.episodes}, {floor.success_rate:.0%} "
            f"({floor.interval.low:.0%} to {floor.interval.high:.0%})"
        )
    reasons = "; ".join(line.gate.reasons) or "–"
    aliases = f", {', '.join(f'`{alias}`' for alias in line.aliases)}" if line.aliases else ""
    return f"| {line.name} | **{line.gate.verdict}** | {success} | {reasons} | {line.version}{aliases} |"


def _controls(line: Line, names: list[str]) -> str:
    cells = []
    for name in names:
        control = line.gate.controls.get(name)
        cells.append(
            f"{control.successes} of {control.episodes}, bound {control.upper_bound:.2f} of {control.ceiling:.2f}, "
            f"{'holds' if control.holds else 'fails'}"
            if control
            else "–"
        )
    return f"| {line.name} | {' | '.join(cells)} |"
