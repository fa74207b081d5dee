"""What clients in this checkout need to find the services: the bucket, DVC's keys, Prefect's address.

`.dvc/config.local` and `prefect.toml` are written here and ignored by git; the committed `.dvc/config` names the
remote and its URL only.
"""

import configparser
import io
from pathlib import Path

from infra.services.definitions import prefect_environment
from infra.services.keys import write_private
from psi0.connection import connect
from psi0.files import write_text
from psi0.settings import Settings
from psi0.storage import ensure_bucket

REMOTE = "store"
"""Name of the DVC remote (the same as in .dvc/config)."""


def write_client_configuration(config: Settings) -> None:
    """Make the bucket, and tell DVC and the prefect command of this checkout where the services are."""
    connection = connect(config)
    ensure_bucket(connection)
    if Path(".dvc").is_dir():
        _configure_dvc(config)
    toml = "".join(
        f"{line}\n"
        for line in (
            "# Written by `psi0 up`, so that the prefect command finds the API from this folder.",
            f'home = "{prefect_environment(config)["PREFECT_HOME"]}"',
            "[api]",
            f'url = "{connection.prefect_api}"',
            "[server]",
            "analytics_enabled = false",
        )
    )
    if not Path("prefect.toml").exists() or Path("prefect.toml").read_text() != toml:
        write_text(Path("prefect.toml"), toml)


def _configure_dvc(config: Settings) -> None:
    """Put endpoint and keys into `.dvc/config.local`; other entries stay as they are."""
    connection, path = connect(config), Path(".dvc/config.local")
    local = configparser.ConfigParser(interpolation=None)
    if path.exists():
        local.read_string(path.read_text())
    section = f"'remote \"{REMOTE}\"'"
    if not local.has_section(section):
        local.add_section(section)
    values = {
        "url": f"s3://{connection.bucket}/dvc",
        "endpointurl": connection.s3_endpoint,
        "region": connection.s3_region,
        "access_key_id": connection.s3_access_key,
        "secret_access_key": connection.s3_secret_key,
    }
    for name, value in values.items():
        if value is None:
            local.remove_option(section, name)
        else:
            local.set(section, name, value)
    text = io.StringIO()
    local.write(text)
    if not path.exists() or path.read_text() != text.getvalue():
        write_private(path, text.getvalue())
