"""The versions of a task side by side, made anew from the registry whenever somebody asks: a table, and a page.

Ranked by verdict, then by the lower end of the success rate's interval: four of four is not better than 39 of 40.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from mlflow import MlflowClient
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from psi0.connection import connect
from psi0.files import write_text
from psi0.registry import attempts
from psi0.registry.versions import Version, aliases, aliases_of, list_tasks, list_versions
from psi0.settings import settings

TEMPLATE = "leaderboard.html.j2"
_VERDICTS = ("pass", "refuse", "void")
_COLOURS = {"pass": "green", "refuse": "red", "void": "yellow"}


@dataclass(frozen=True)
class Entry:
    """A line of the board.

    Attributes:
        rank: from 1, of its task.
        successes, episodes: None where no floor test ran.
        rate, low, high: success rate and its 95 % interval.
        attempt: which candidate it was under its plan; 0 unknown.
        plan: first digits of its plan's hash; only entries of one plan are alike in what was asked of them.
        overridden: it was promoted against the rule.
        link: its page in MLflow.
    """

    rank: int
    task: str
    version: str
    verdict: str
    successes: int | None
    episodes: int | None
    rate: float
    low: float
    high: float
    attempt: int
    plan: str
    commit: str
    date: str
    aliases: list[str]
    overridden: bool
    link: str

    @property
    def counts(self) -> str:
        """`39 of 40`."""
        return "none" if self.episodes is None else f"{self.successes} of {self.episodes}"


def default_file() -> Path:
    """Where the recipe leaves the page."""
    return settings().home.absolute() / "leaderboard.html"


def rank(client: MlflowClient, task: str | None = None) -> dict[str, list[Entry]]:
    """The entries of a task, or of every task, best first. Raises `Psi0Error` when MLflow does not answer."""
    tasks = list_tasks(client) if task is None else [task]
    return {each: _entries(list_versions(client, each), aliases(client, each)) for each in tasks}


def show_board(board: dict[str, list[Entry]]) -> RenderableType:
    """The board for a terminal."""
    parts: list[RenderableType] = []
    for task, entries in board.items():
        table = Table(title=f"{task}: {len(entries)} versions", title_justify="left", box=None, pad_edge=False)
        for heading in (
            "",
            "version",
            "success",
            "n",
            "interval",
            "verdict",
            "attempt",
            "plan",
            "commit",
            "date",
            "alias",
        ):
            table.add_column(heading, justify="right" if heading in ("", "version", "n", "attempt") else "left")
        for one in entries:
            judged = one.episodes is not None
            table.add_row(
                str(one.rank),
                one.version,
                f"{one.rate:.0%}" if judged else "-",
                str(one.episodes) if judged else "-",
                f"{one.low:.0%} to {one.high:.0%}" if judged else "-",
                Text(one.verdict, style=_COLOURS.get(one.verdict, "")),
                str(one.attempt or "-"),
                one.plan,
                one.commit,
                one.date,
                Text(
                    ", ".join([*one.aliases, *(["OVERRIDDEN"] if one.overridden else [])]),
                    style="red" if one.overridden else "",
                ),
            )
        parts.append(table)
    return Group(*parts) if parts else Text("no policy is registered yet; `make recipe` registers one")


def write_board(board: dict[str, list[Entry]], file: Path) -> Path:
    """Write the board as one HTML file that sends no request; returns where it lies."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    write_text(file, environment.get_template(TEMPLATE).render(board=board, made=made))
    return file


def _entries(versions: list[Version], known: dict[str, str]) -> list[Entry]:
    ordered = sorted(versions, key=_place)
    return [_entry(number, version, aliases_of(known, version)) for number, version in enumerate(ordered, 1)]


def _place(version: Version) -> tuple[int, float, float, int]:
    verdict = _VERDICTS.index(version.verdict) if version.verdict in _VERDICTS else len(_VERDICTS)
    low, rate = (_number(version, name) for name in ("interval_low", "success_rate"))
    return verdict, -low, -rate, -int(version.number)


def _entry(number: int, version: Version, names: list[str]) -> Entry:
    tags = version.tags
    judged = {"successes", "episodes", "success_rate", "interval_low", "interval_high"} <= tags.keys()
    return Entry(
        rank=number,
        task=version.task,
        version=version.number,
        verdict=version.verdict,
        successes=int(_number(version, "successes")) if judged else None,
        episodes=int(_number(version, "episodes")) if judged else None,
        rate=_number(version, "success_rate"),
        low=_number(version, "interval_low"),
        high=_number(version, "interval_high"),
        attempt=attempts.number_of(version),
        plan=tags.get("plan_sha256", "")[:8],
        commit=tags.get("git_commit", "unknown")[:10] + ("+" if tags.get("git_dirty") == "true" else ""),
        date=time.strftime("%Y-%m-%d", time.gmtime(version.registered_at / 1000)),
        aliases=names,
        overridden=tags.get("promotion") == "overridden",
        link=f"{connect().mlflow_uri}/#/models/{version.name}/versions/{version.number}",
    )


def _number(version: Version, tag: str) -> float:
    """A tag as a number; 0 where it is missing or somebody wrote something else into it."""
    try:
        return float(version.tags.get(tag, 0))
    except ValueError:
        return 0.0
