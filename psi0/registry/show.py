"""Versions in words: the list of them, and all there is to say about one."""

import json
import time
from typing import Any

from mlflow import MlflowClient

from psi0.connection import connect
from psi0.registry import attempts
from psi0.registry.tracking import explained
from psi0.registry.versions import (
    EVIDENCE,
    WEIGHTS,
    Version,
    aliases,
    aliases_of,
    list_models,
    list_tasks,
    list_versions,
    model_name,
)
from psi0.registry.weights import CONTENT

_ORIGIN = ("git_commit", "git_dirty", "plan_sha256", "policy_sha256", "graphs_sha256", "lock_sha256", "evidence_sha256")


def list_lines(client: MlflowClient, task: str | None = None) -> list[str]:
    """A line per version: of a task, or of every task and then of the weights."""
    registered = {model.name for model in list_models(client)}
    tasks = (
        [*list_tasks(client), *(one for one in WEIGHTS if model_name(one) in registered)] if task is None else [task]
    )
    lines = []
    for each in tasks:
        known = aliases(client, each)
        lines += [_line(version, aliases_of(known, version)) for version in list_versions(client, each)]
    return lines or [f"no version of {task or 'any policy'} is registered yet; `make recipe` registers one"]


def show_lines(client: MlflowClient, version: Version) -> list[str]:
    """All there is to say about a version."""
    tags = version.tags
    names = ", ".join(aliases_of(aliases(client, version.task), version))
    lines = [f"{version.label}{f' ({names})' if names else ''}: {version.verdict}", ""]
    lines += [*version.description.splitlines(), ""]
    if tags.get("promotion") == "overridden":
        lines += [f"PROMOTED AGAINST THE RULE by {tags.get('promoted_by')}: {tags.get('promoted_because')}", ""]
    facts = {"registered": f"{_date(version)}, {attempts.phrase(attempts.number_of(version))}"}
    facts |= {name: f"version {tags[name]}" for name in map(model_name, WEIGHTS) if name in tags}
    facts |= {name: value for name, value in sorted(tags.items()) if name in _ORIGIN or name.startswith("data.")}
    facts |= _files(client, version)
    facts["page"] = f"{connect().mlflow_uri}/#/models/{version.name}/versions/{version.number}"
    return [*lines, *(f"{name:24} {value}" for name, value in facts.items())]


def version_json(client: MlflowClient, version: Version) -> str:
    """A version as JSON: everything the registry holds about it."""
    content: dict[str, Any] = {
        "schema_version": 1,
        "model": version.name,
        "version": version.number,
        "verdict": version.verdict,
        "aliases": aliases_of(aliases(client, version.task), version),
        "run_id": version.run_id,
        "source": version.source,
        "registered_at": _date(version),
        "tags": version.tags,
        "description": version.description,
    }
    return json.dumps(content, indent=2, sort_keys=True)


def _line(version: Version, names: list[str]) -> str:
    if version.task in WEIGHTS:
        size = float(version.tags.get("bytes", 0)) / 1e6
        return f"{version.name:16} {version.number:>4}  weights {version.tags.get(CONTENT, '')[:12]} {size:8.1f} MB"
    rate = f"{version.tags.get('successes', '?')} of {version.tags.get('episodes', '?')}"
    attempt = f"attempt {attempts.number_of(version) or '?'}"
    overridden = ["OVERRIDDEN"] if version.tags.get("promotion") == "overridden" else []
    line = f"{version.name:16} {version.number:>4}  {version.verdict:8} {rate:>10}  {attempt:11} {_date(version)[:10]}"
    return f"{line}  {', '.join([*names, *overridden])}".rstrip()


def _files(client: MlflowClient, version: Version) -> dict[str, str]:
    if not version.run_id:
        return {"evidence": "none: the version has no run, it was made by hand"}
    if version.task in WEIGHTS:
        return {"files": version.source}
    with explained(f"listing the evidence of {version.label}"):
        there = [item.path.removeprefix(f"{EVIDENCE}/") for item in client.list_artifacts(version.run_id, EVIDENCE)]
    bundle = {"bundle": version.tags["bundle_address"]} if "bundle_address" in version.tags else {}
    return {"run": version.run_id, "evidence": ", ".join(there) or "none", **bundle}


def _date(version: Version) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(version.registered_at / 1000))
