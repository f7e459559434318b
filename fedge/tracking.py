"""Metrics for a tracker that a researcher already has: TensorBoard or MLflow, on this machine, as an option.

Only what the server knows anyway is given: scores on its public test set, counts of answers, epsilon as stated.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from fedge.errors import ConfigError


class Tracker(Protocol):
    """Takes numbers by round."""

    def log(self, values: Mapping[str, float], round_: int) -> None:
        """Record `values` at `round_`."""
        ...

    def close(self) -> None:
        """Write what is still in memory."""
        ...


class Nothing:
    """Tracks nothing."""

    def log(self, values: Mapping[str, float], round_: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class TensorBoard:
    """Event files in `folder`; look at them with `tensorboard --logdir`."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # only with the extra: it imports tensorboard
        except ImportError as error:
            raise ConfigError("tracking=tensorboard needs an extra: pip install 'fedge[tensorboard]'") from error
        self._writer: Any = SummaryWriter(str(folder))

    def log(self, values: Mapping[str, float], round_: int) -> None:
        """Record scalars."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, round_)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


class MLflow:
    """One MLflow run in a file store in `folder`; look at it with `mlflow ui --backend-store-uri`."""

    def __init__(self, folder: Path, run: str, parameters: Mapping[str, Any]) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise ConfigError("tracking=mlflow needs an extra: pip install 'fedge[mlflow]'") from error
        folder.mkdir(parents=True, exist_ok=True)
        self._client: Any = MlflowClient(tracking_uri=f"sqlite:///{folder.resolve() / 'mlflow.db'}")
        experiment = self._client.get_experiment_by_name("fedge")
        identity = experiment.experiment_id if experiment else self._client.create_experiment("fedge")
        self._run = self._client.create_run(identity, run_name=run).info.run_id
        for key, value in parameters.items():
            self._client.log_param(self._run, key, value)

    def log(self, values: Mapping[str, float], round_: int) -> None:
        """Record metrics."""
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=round_)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run)


def tracker(
    kind: Literal["none", "tensorboard", "mlflow"], folder: Path, run: str, parameters: Mapping[str, Any]
) -> Tracker:
    """Return the tracker of that kind. Raises ConfigError if its extra is not installed."""
    match kind:
        case "tensorboard":
            return TensorBoard(folder / "tensorboard")
        case "mlflow":
            return MLflow(folder / "mlflow", run, parameters)
        case _:
            return Nothing()


def values_of(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of one metrics line by the names they are tracked under."""
    values = {f"test/{name}": float(value) for name, value in line["scores"].items()}
    values["clients/accepted"] = float(line["accepted"])
    for part in line["participants"]:
        if part["epsilon_total"] is not None:
            values[f"epsilon/{part['client']}"] = float(part["epsilon_total"])
    return {name: value for name, value in values.items() if value < float("inf")}
