"""How commands find a registered policy; MLflow is loaded only when one is named."""

from pathlib import Path


def registered(address: str) -> Path:
    """The folder on this machine of `models:/NAME@ALIAS`. Raises `Psi0Error` where there is none."""
    from psi0.registry.lookup import fetch_policy

    return fetch_policy(address)
