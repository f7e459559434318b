"""Everything that a liar could hold: the bundle of a real run, and the private keys of all who took part in it.

An attack is mounted on the files as a public reader sees them; which keys it may use is what the attacker is.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedge.audit import tiles
from fedge.audit.checkpoint import Checkpoint, cosign
from fedge.audit.leaves import Leaf, RunOpen, decode, encode
from fedge.audit.merkle import Tree, leaf_hash
from fedge.audit.note import Note, sign
from fedge.audit.proof import Receipt
from fedge.audit.verify import Verification, verify_run
from fedge.encoding import digest
from fedge.ids import ClientId
from fedge.rounds.folder import ClientFolder, RunFolder
from fedge.signing import PrivateKey, load_private

CLIENTS = ("hospital-1", "hospital-2", "hospital-3")


class Forger:
    """A copy of a run's public files in `bundle`, its entries, and every private key."""

    def __init__(self, run: Path, place: Path) -> None:
        self.run, self.bundle, self.policy = RunFolder(run), place / "bundle", place / "policy.txt"
        for name in ("audit", "receipts"):
            shutil.copytree(run / name, self.bundle / name)
        for name in ("config.json", "model.safetensors"):
            shutil.copy(run / name, self.bundle / name)
        shutil.copy(run / "audit" / "policy.txt", self.policy)
        size = int((run / "audit" / "checkpoint").read_text().split("\n")[1])
        bundles = [(run / "audit" / path).read_bytes() for path in tiles.bundle_paths(size)]
        self.entries = [entry for bundle in bundles for entry in tiles.unpack(bundle)]
        self.server, self.log = (load_private(self.run.server / f"{who}.key") for who in ("server", "log"))
        folders = {name: ClientFolder(self.run.clients / name) for name in CLIENTS}
        self.clients = {name: load_private(folder.key) for name, folder in folders.items()}
        self.witnesses = {name: load_private(folder.witness_key) for name, folder in folders.items()}

    @property
    def origin(self) -> str:
        return f"fedge/{self.run.root.name}"

    def leaf(self, index: int) -> Any:
        return decode(self.entries[index])[0]

    def index_of(self, event: str, nth: int = 0, **members: object) -> int:
        """Return the number of the nth entry of this event with these members; -1 for the last."""
        found = [
            index
            for index, entry in enumerate(self.entries)
            if type(decode(entry)[0]).__name__ == event
            and all(getattr(self.leaf(index), name) == value for name, value in members.items())
        ]
        return found[nth]

    def change(self, index: int, key: PrivateKey | None = None, **members: object) -> None:
        """State entry `index` anew with other members, signed by `key` (by default whoever signed it)."""
        leaf = replace(self.leaf(index), **members)
        self.entries[index] = encode(leaf, key or self.signer(leaf))

    def signer(self, leaf: Leaf) -> PrivateKey:
        return self.clients[getattr(leaf, "client", "")] if leaf.party == "client" else self.server

    def mend_chains(self, of: Iterable[str] = CLIENTS) -> None:
        """Count and link the statements of these clients anew: what they could do, and nobody without their keys."""
        ends: dict[str, tuple[int, str | None]] = {}
        for index in range(len(self.entries)):
            leaf = self.leaf(index)
            if leaf.party == "client" and leaf.client in of:
                seq, previous = ends.get(leaf.client, (0, None))
                self.change(index, seq=seq, previous=previous)
                ends[leaf.client] = (seq + 1, digest(self.entries[index]))

    def mend_close(self) -> None:
        """Have the closing entry count what is there now."""
        counts = dict.fromkeys(CLIENTS, 0)
        for index in range(len(self.entries)):
            leaf = self.leaf(index)
            if leaf.party == "client":
                counts[leaf.client] += 1
        self.change(len(self.entries) - 1, leaves=counts)

    def note(self, size: int | None = None, witnesses: Iterable[str] = CLIENTS, at: datetime | None = None) -> Note:
        """Return the checkpoint of the first `size` entries, signed by the log and cosigned by `witnesses` at `at`."""
        count = len(self.entries) if size is None else size
        root = Tree(map(leaf_hash, self.entries[:count])).root()
        note = sign(Checkpoint(self.origin, count, root).body, self.origin, self.log)
        now = at or datetime.now(UTC)
        lines = [cosign(note.body, f"{name}-witness", self.witnesses[name], now) for name in witnesses]
        return note.with_signatures(tuple(lines))

    def publish(self, witnesses: Iterable[str] = (), at: datetime | None = None, policy: str | None = None) -> None:
        """Publish the entries as they are now, under a checkpoint of the log's own key and these witnesses."""
        audit = self.bundle / "audit"
        shutil.rmtree(audit / "tile")
        entries, tree = self.entries, Tree(map(leaf_hash, self.entries))
        for path, content in tiles.changed(tree, lambda start, stop: entries[start:stop]):
            (audit / path).parent.mkdir(parents=True, exist_ok=True)
            (audit / path).write_bytes(content)
        (audit / "checkpoint").write_text(self.note(witnesses=witnesses, at=at).text)
        if policy is not None:
            (audit / "policy.txt").write_text(policy)

    def give_receipts(self, at: datetime | None = None, size: int | None = None) -> None:
        """Give every client statement a receipt of the log as it is now, as each honest witness would keep it."""
        shutil.rmtree(self.bundle / "receipts")
        count = len(self.entries) if size is None else size
        tree = Tree(map(leaf_hash, self.entries[:count]))
        for index in range(count):
            leaf = self.leaf(index)
            if leaf.party == "client":
                receipt = Receipt(index, tuple(tree.inclusion(index)), self.note(count, [leaf.client], at))
                path = self.bundle / "receipts" / leaf.client / f"statement-{leaf.seq:04d}.tlog-proof"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(receipt.text)

    def drop_receipts(self) -> None:
        """Leave out all receipts: an attacker shows none that speaks against it."""
        shutil.rmtree(self.bundle / "receipts")

    def verify(self, policy: bool = True, **options: Any) -> Verification:
        return verify_run(self.bundle, self.policy if policy else None, **options)


Attack = Callable[[Forger], Verification]


def opening(forger: Forger) -> RunOpen:
    leaf = forger.leaf(0)
    assert isinstance(leaf, RunOpen)
    return leaf


def client(name: str) -> ClientId:
    return ClientId(name)


def only(found: Sequence[Any]) -> Any:
    (one,) = found
    return one
