"""Where things lie in the folder of a run: names in one place, and who may read them.

Public (evidence, reports): everything at the top, `audit/` and `receipts/`. Private to the server: `server/`.
Private to each client: `clients/<name>/`. In a simulation they share a disk; in a deployment they never do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedge.ids import ClientId


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    root: Path

    @property
    def config_yaml(self) -> Path:
        """The composed configuration, for people."""
        return self.root / "config.yaml"

    @property
    def config_json(self) -> Path:
        """Its canonical bytes; their digest opens the log."""
        return self.root / "config.json"

    @property
    def environment(self) -> Path:
        """Versions of packages, platform, seeds."""
        return self.root / "environment.json"

    @property
    def model(self) -> Path:
        """The released global model."""
        return self.root / "model.safetensors"

    @property
    def metrics(self) -> Path:
        """One JSON object a round."""
        return self.root / "metrics.jsonl"

    @property
    def metrics_csv(self) -> Path:
        """The same, one row a round and client."""
        return self.root / "metrics.csv"

    @property
    def summary(self) -> Path:
        """What came out: one JSON object."""
        return self.root / "summary.json"

    @property
    def report(self) -> Path:
        """The report for people who do not read logs."""
        return self.root / "report.html"

    @property
    def audit(self) -> Path:
        """The published log: checkpoint, tiles, policy."""
        return self.root / "audit"

    @property
    def receipts(self) -> Path:
        """Each client's receipts."""
        return self.root / "receipts"

    @property
    def server(self) -> Path:
        """Private to the server."""
        return self.root / "server"

    @property
    def clients(self) -> Path:
        """Private to the clients, unless they live elsewhere."""
        return self.root / "clients"

    def receipts_of(self, client: ClientId) -> Path:
        """Receipts of one client."""
        return self.receipts / client


@dataclass(frozen=True)
class ClientFolder:
    """The folder of one client: it belongs to the data's owner."""

    root: Path

    @property
    def key(self) -> Path:
        """Signs the client's statements."""
        return self.root / "client.key"

    @property
    def witness_key(self) -> Path:
        """Cosigns checkpoints."""
        return self.root / "witness.key"

    @property
    def secret(self) -> Path:
        """Finds a person's key by their identifier; destroying it makes that impossible for everybody."""
        return self.root / "pseudonym.key"

    @property
    def subjects(self) -> Path:
        """Each person's own key, from which their pseudonym and commitments are derived; and the approved cohorts."""
        return self.root / "subjects.db"

    @property
    def consent(self) -> Path:
        """Permission events."""
        return self.root / "consent.db"

    @property
    def ledger(self) -> Path:
        """Privacy spends."""
        return self.root / "ledger.db"

    @property
    def state(self) -> Path:
        """What the client said so far, and the checkpoints it has pinned."""
        return self.root / "state.db"

    @property
    def answer(self) -> Path:
        """The tensors of the client's last answer, to be sent again if they were lost on the way."""
        return self.root / "answer.safetensors"

    @property
    def sessions(self) -> Path:
        """The secrets of the latest session of secure aggregation in each run, while it lasts."""
        return self.root / "sessions"

    @property
    def faults(self) -> Path:
        """What went wrong, for the owner: tracebacks may quote data, so they never leave."""
        return self.root / "faults.log"
