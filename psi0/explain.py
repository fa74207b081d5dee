"""What pydantic refuses, as messages that name the field and the remedy."""

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest of the known names, or all of them when none is near."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"


def explain(error: ValidationError, source: str, model: type[BaseModel]) -> str:
    """One line per problem: the file, the field, what is wrong with it and, where it is known, what to write."""
    return "\n".join(_line(problem, source, model) for problem in error.errors())


def _line(problem: ErrorDetails, source: str, model: type[BaseModel]) -> str:
    location = problem["loc"]
    field = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        return f"{source}: unknown key {field}; {did_you_mean(str(location[-1]), _known_keys(model, location[:-1]))}"
    if problem["type"] == "value_error":
        reason = problem["msg"].removeprefix("Value error, ")
        return f"{source}: {field}: {reason}" if field else f"{source}: {reason}"
    hint = _as_number(problem["input"]) if problem["type"] in ("float_type", "int_type") else ""
    return f"{source}: {field}: {problem['msg']} (found {problem['input']!r:.60}){hint}"


def _as_number(found: Any) -> str:
    """What to write for a number that was read as something else: YAML takes 1e-4 and "400" as text."""
    try:
        number = float(found)
    except (TypeError, ValueError):
        return ""
    return "" if isinstance(found, bool) else f"; write {int(number) if number.is_integer() else number}"


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    block: Any = model
    for part in location:
        fields = getattr(block, "model_fields", {})
        if part not in fields:
            return []
        block = fields[part].annotation
    return list(getattr(block, "model_fields", {}))
