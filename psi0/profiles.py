"""Profiles: named parameter sets. `tiny` is the schema's defaults; a file in `params/` overrides them.

`params.yaml` is rendered from a profile, each field with its description, so the schema is the one source of both.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from psi0.errors import Psi0Error
from psi0.files import write_text
from psi0.params import PARAMS_FILE, Params, load_params, parse_params

PROFILES_FOLDER = Path("params")
DEFAULT_PROFILE = "tiny"
_TASKS_LINE = re.compile(r"^tasks: *\[[^\]\n]*\]", re.MULTILINE)


def profile_names(folder: Path = PROFILES_FOLDER) -> list[str]:
    """Names that `psi0 params use` takes."""
    return [DEFAULT_PROFILE, *sorted(file.stem for file in folder.glob("*.yaml"))]


def load_profile(name: str, folder: Path = PROFILES_FOLDER) -> Params:
    """The full parameters of a profile. Raises `Psi0Error` for an unknown name or a wrong field."""
    if name == DEFAULT_PROFILE:
        return Params()
    file = folder / f"{name}.yaml"
    if not file.exists():
        raise Psi0Error(f"profile {name!r} does not exist; profiles: {', '.join(profile_names(folder))}")
    overrides = yaml.safe_load(file.read_text()) or {}
    return parse_params({"profile": name} | overrides, str(file))


def render(params: Params) -> str:
    """`params.yaml` as text: one block per stage, each field followed by its description."""
    lines = [
        "# What is made. One block per stage; DVC tracks each value, `psi0 params check` validates, `psi0 params use",
        "# NAME` puts another profile in place. Where and how fast it runs: PSI0_* settings, which change no result.",
    ]
    for name, field in type(params).model_fields.items():
        value = getattr(params, name)
        if isinstance(value, BaseModel):
            lines += ["", f"{name}:  # {(type(value).__doc__ or '').strip()}"]
            lines += [f"  {line}" for line in _fields(value)]
        else:
            lines.append(f"{name}: {_inline(value)}  # {field.description}")
    return "\n".join(lines) + "\n"


def use_profile(name: str, force: bool = False, target: Path = PARAMS_FILE) -> str:
    """Write a profile to `target` and return what was done.

    Raises:
        Psi0Error: the profile does not exist, or `target` holds values of no profile and `force` is off.
    """
    params = load_profile(name)
    if target.exists() and not force:
        current = load_params(target)
        if all(current != load_profile(known) for known in profile_names()):
            raise Psi0Error(
                f"{target} holds values that no profile has; save it in params/NAME.yaml, or pass --force to drop them"
            )
    write_text(target, render(params))
    return f"{target} now holds profile {name}: tasks {', '.join(params.tasks)}"


def add_tasks(wanted: Sequence[str], target: Path = PARAMS_FILE) -> list[str]:
    """Add tasks to the line `tasks:` of `target`, and change nothing else in it.

    Returns:
        The tasks that were not there.

    Raises:
        Psi0Error: `target` is broken, or its tasks are not written on one line.
    """
    known = load_params(target).tasks
    missing = [task for task in wanted if task not in known]
    if missing:
        text = target.read_text()
        changed, count = _TASKS_LINE.subn(f"tasks: [{', '.join([*known, *missing])}]", text)
        if count != 1 or parse_params(yaml.safe_load(changed), str(target)).tasks != [*known, *missing]:
            raise Psi0Error(f"{target}: add {', '.join(missing)} to `tasks` by hand, which is not one line there")
        write_text(target, changed)
    return missing


def _fields(block: BaseModel) -> list[str]:
    return [
        f"{name}: {_inline(getattr(block, name))}  # {field.description}"
        for name, field in type(block).model_fields.items()
    ]


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        value = {key: item.model_dump() if isinstance(item, BaseModel) else item for key, item in value.items()}
    return yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False).removesuffix("\n...\n").strip()
