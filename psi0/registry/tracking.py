"""The MLflow server: a client that gives up soon and says what to do."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

# Read by MLflow at each request: by default it repeats for minutes before it says that a server is down.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from psi0.connection import connect
from psi0.errors import Psi0Error

EXPERIMENT = "psi0"
"""Experiment that holds every run of the recipe."""


class TrackingDownError(Psi0Error):
    """MLflow does not answer; another attempt may find it again."""


def open_tracking(uri: str | None = None) -> MlflowClient:
    """A client of the configured MLflow server (or of `uri`). Raises `TrackingDownError` when nobody answers."""
    uri = uri or connect().mlflow_uri
    if uri.startswith("http"):
        _check_answers(uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@retry(
    retry=retry_if_exception_type(TrackingDownError),
    stop=stop_after_attempt(3),
    wait=wait_exponential(0.5),
    reraise=True,
)
def _check_answers(uri: str) -> None:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=10):
            pass
    except urllib.error.HTTPError:
        pass
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise TrackingDownError(
            f"MLflow at {uri} does not answer ({reason}); start it with `psi0 up`, or set PSI0_MLFLOW_URI. "
            "Nothing is lost: run the recipe again and it registers what is missing"
        ) from None


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn MLflow's exceptions into `Psi0Error` that says what was attempted."""
    try:
        yield
    except requests.RequestException as error:
        # Artifacts are sent past MLflow's own error handling.
        raise TrackingDownError(
            f"{what}: MLflow at {connect().mlflow_uri} or its artifact store did not take part ({error!s:.200}); "
            "see `psi0 status`, then run again"
        ) from None
    except MlflowException as error:
        if "failed with exception" in str(error) or "Max retries" in str(error):
            raise TrackingDownError(
                f"{what}: MLflow at {connect().mlflow_uri} does not answer; see `psi0 status`, then run again"
            ) from None
        raise Psi0Error(f"{what}: MLflow refused ({error})") from None


def is_missing(error: MlflowException) -> bool:
    """Whether MLflow answered that something does not exist, rather than failing to answer."""
    # A missing alias is reported as an invalid value.
    missing_alias = "alias" in str(error) and str(error).endswith("not found.")
    return error.error_code == "RESOURCE_DOES_NOT_EXIST" or missing_alias


def experiment_id(client: MlflowClient) -> str:
    """The id of the experiment `psi0`, made at the first use. Raises `Psi0Error` when it was deleted in the UI."""
    with explained("finding the experiment"):
        known = client.get_experiment_by_name(EXPERIMENT)
        if known is None:
            return client.create_experiment(EXPERIMENT)
        if known.lifecycle_stage != "active":
            client.restore_experiment(known.experiment_id)
        return known.experiment_id
