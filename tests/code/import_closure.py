"""Which source files of psi0 a module can reach: its imports and theirs, those inside functions included."""

import ast
from collections.abc import Iterator
from pathlib import Path


def reached(module: str, root: Path = Path()) -> set[Path]:
    """Files of psi0, relative to `root`, that importing `module` and calling what is in them may load."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        parts = waiting.pop().split(".")
        for end in range(1, len(parts) + 1):
            file = _file(root, parts[:end])
            if file is not None and file not in found:
                found.add(file)
                waiting += [name for name in _imported(file) if name.split(".")[0] == "psi0"]
    return {file.relative_to(root) for file in found}


def _file(root: Path, parts: list[str]) -> Path | None:
    stem = root.joinpath(*parts)
    candidates = (stem / "__init__.py", stem.with_suffix(".py"))
    return next((file for file in candidates if file.exists()), None)


def _imported(file: Path) -> Iterator[str]:
    """Dotted names; of `from a import b` both `a` and `a.b`, for `b` may be a module."""
    tree = ast.parse(file.read_text())
    annotations_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in annotations_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
