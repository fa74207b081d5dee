"""`psi0 tokenizer <verb>`."""

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="FAST action tokens, by hand.", no_args_is_help=True)

_TOKENIZER = typer.Option(help="Tokenizer folder: models/tokenizer, or one with FAST's tokenizer.json")
_VALUES = typer.Option(help="JSON file: a list of lists")


@app.command("encode")
def tokenizer_encode(
    tokenizer: Annotated[Path, _TOKENIZER],
    values: Annotated[Path, _VALUES],
) -> None:
    """Normalised actions (numbers in [-1, 1]) to FAST ids, as JSON."""
    from psi0.model.tokenizer_command import encode_file

    typer.echo(json.dumps(encode_file(tokenizer, values)))


@app.command("decode")
def tokenizer_decode(
    tokenizer: Annotated[Path, _TOKENIZER],
    values: Annotated[Path, _VALUES],
) -> None:
    """FAST ids to normalised actions, as JSON."""
    from psi0.model.tokenizer_command import decode_file

    typer.echo(json.dumps(decode_file(tokenizer, values)))


@app.command("report")
def tokenizer_report(
    tokenizer: Annotated[Path, _TOKENIZER] = Path("models/tokenizer"),
    dataset: Annotated[Path, typer.Option(help="Prepared dataset whose actions are encoded")] = Path(
        "data/prepared/egodex"
    ),
    samples: Annotated[int, typer.Option(min=1, help="Actions at most")] = 20_000,
) -> None:
    """Print what encoding loses and how many tokens an action takes, beside the paper's figures."""
    from psi0.train.tokenizer_report import report

    for line in report(tokenizer, dataset, samples).lines():
        typer.echo(line)
