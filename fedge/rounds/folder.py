"""Where things lie in the folder of a run: names in one place, and who may read them.

Public (evidence, reports): everything at the top, `audit/` and `receipts/`. Private to the server: `server/`.
Private to each client: `clients/<name>/`. In a simulation they share a disk; in a deployment they never do.

Simulated clients by the thousand share a few files (`PackedFolder`); whoever opens one by `client_folder` need not
know.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from fedge.erasable import ErasableJournal
from fedge.errors import StorageError
from fedge.files import FileSlot
from fedge.ids import ClientId
from fedge.packed import PackedJournal

JournalName = Literal["people", "permissions", "spends", "pins", "answers", "findings"]
PACKS = 16
"""So many files a packed population has, whatever the number of processes that share it: each file has one writer."""


class Slot(Protocol):
    """A place for one thing, replaced as a whole."""

    def put(self, data: bytes | None) -> None:
        """Make `data` what lies here, durably; None: nothing."""
        ...

    def get(self) -> bytes | None:
        """Return what lies here."""
        ...


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

    def read_secret(self) -> bytes:
        """Return the secret in `secret`. Raises StorageError."""
        try:
            return self.secret.read_bytes()
        except OSError as error:
            raise StorageError(f"cannot read {self.secret}: {error.strerror}") from error

    def journal(self, name: JournalName) -> ErasableJournal:
        """Open one of the client's journals; those beside it in its file are had with `beside`."""
        files = {"people": self.subjects, "permissions": self.consent, "spends": self.ledger}
        return ErasableJournal(files.get(name, self.state), name)

    @property
    def answer(self) -> Slot:
        """The tensors of the client's last answer, to be sent again if they were lost on the way."""
        return FileSlot(self.root / "answer.safetensors")

    @property
    def sessions(self) -> Path:
        """The secrets of the latest session of secure aggregation in each run, while it lasts."""
        return self.root / "sessions"

    @property
    def faults(self) -> Path:
        """What went wrong, for the owner: tracebacks may quote data, so they never leave."""
        return self.root / "faults.log"


@dataclass(frozen=True)
class PackedFolder(ClientFolder):
    """A simulated client whose journals lie in `pack`, with those of others; what is seldom there lies in `root`."""

    pack: PackedJournal = field(repr=False, compare=False, kw_only=True)

    def derived(self, what: str) -> bytes:
        """Return 32 secret bytes for `what`, derived from the one key of the population. Raises StorageError."""
        path = population_key(self.root.parent)
        try:
            return hmac.digest(path.read_bytes(), f"{what}\0{self.root.name}".encode(), "sha256")
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error

    def read_secret(self) -> bytes:
        """Return the client's secret for pseudonyms."""
        return self.derived("pseudonyms")

    def journal(self, name: JournalName) -> ErasableJournal:
        """Open one of the client's journals."""
        return self.pack.of(self.root.name, name)

    @property
    def answer(self) -> Slot:
        """The tensors of the client's last answer."""
        return self.pack.of(self.root.name, "tensors")


def pack_file(home: Path, number: int) -> Path:
    """Return where pack `number` of the population in `home` lies."""
    return home / f"pack-{number:02d}.db"


def population_key(home: Path) -> Path:
    """Return where the key lies that all keys of a packed population are derived from."""
    return home / "population.key"


def pack_of(name: str) -> int:
    """Return which pack a client's journals lie in: a function of its name alone."""
    return hashlib.sha256(name.encode()).digest()[0] % PACKS


def client_folder(root: Path) -> ClientFolder:
    """Return the folder of the client at `root`, packed or not; nothing is made."""
    pack = pack_file(root.parent, pack_of(root.name))
    if (root / "ledger.db").is_file() or not pack.is_file():
        return ClientFolder(root)
    return PackedFolder(root, pack=PackedJournal(pack))


def is_client(root: Path) -> bool:
    """Return whether there is a client at `root`: one with a ledger."""
    return (root / "ledger.db").is_file() or (
        pack_file(root.parent, pack_of(root.name)).is_file() and client_folder(root).journal("spends").size() > 0
    )


def client_folders(home: Path) -> dict[str, ClientFolder]:
    """Return the folders of all clients in `home` that have a ledger, by name."""
    found = {p.name: ClientFolder(p) for p in home.glob("*") if (p / "ledger.db").is_file()}
    for file in home.glob("pack-*.db"):
        pack = PackedJournal(file)
        found |= {n: PackedFolder(home / n, pack=pack) for n in pack.owners() if pack.of(n, "spends").size()}
    return dict(sorted(found.items()))
