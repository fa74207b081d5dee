"""Keys of the local services: made once, kept in files that only their owner can read."""

import base64
import json
import os
import secrets
from pathlib import Path

from psi0.connection import Secrets, ray_token_file, read_secrets, secrets_file, services_folder
from psi0.errors import Psi0Error
from psi0.files import temporary_name
from psi0.settings import Settings


def write_private(path: Path, content: str) -> None:
    """Replace `path` by `content`, readable by its owner alone from the first byte on (mode 600)."""
    if path.exists() and path.stat().st_mode & 0o777 == 0o600 and path.read_text() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise Psi0Error(f"{path}: cannot write ({error.strerror}); free some space or fix its permissions") from error


def ensure_secrets(config: Settings) -> Secrets:
    """Return the keys of the local services, making those that are missing."""
    folder = services_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    known = read_secrets(config)
    if known is None or not known.webhook_secret:
        fresh = {"webhook_secret": secrets.token_hex(32)}
        known = (
            known.model_copy(update=fresh)
            if known
            else Secrets(
                s3_access_key=secrets.token_hex(10),
                s3_secret_key=secrets.token_hex(20),
                ray_token=secrets.token_hex(32),
                mlflow_encryption_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                **fresh,
            )
        )
        write_private(secrets_file(config), json.dumps(known.model_dump(), indent=2) + "\n")
    write_private(ray_token_file(config), known.ray_token)
    return known
