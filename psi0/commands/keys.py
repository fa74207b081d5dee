"""`psi0 keys <verb>`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The key that signs bundles, and the keys that are trusted.", no_args_is_help=True)


@app.command("new")
def keys_new(
    out: Annotated[Path | None, typer.Option(help="Folder for the pair; default: this checkout's own")] = None,
) -> None:
    """Make a signing key pair: signing.pem (mode 600) and signing.pub; nothing is overwritten."""
    from psi0.deploy.keys import PRIVATE, PUBLIC, make_keys
    from psi0.settings import settings

    folder = out or settings().home / "keys"
    key = make_keys(folder)
    typer.echo(f"private  {folder / PRIVATE} (mode 600; whoever has it can sign)")
    typer.echo(f"public   {folder / PUBLIC} (copy it to every machine that is to trust the bundles)")
    typer.echo(f"fingerprint  {key.fingerprint}")


@app.command("show")
def keys_show() -> None:
    """Print the fingerprints of the key that signs here and of the keys that are trusted."""
    from psi0.deploy.keys import own_key, private_key_file, trusted_keys

    own = own_key()
    typer.echo(f"signs    {own.fingerprint}  {private_key_file()}" if own else "signs    nothing yet (`psi0 keys new`)")
    trusted = trusted_keys()
    for key in trusted:
        typer.echo(f"trusted  {key.fingerprint}  {key.file}")
    if own and own.fingerprint not in {key.fingerprint for key in trusted}:
        typer.echo("the key that signs here is not trusted here: what it signs cannot be published from here")
