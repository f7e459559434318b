"""Whether entries tell one story: signed by whom they should be, chains without gaps, each model after the one before.

Pure judgements over decoded entries; each returns a sentence that holds, or raises ProofError/SignatureError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedge.audit.leaves import ClientEnrol, DataUse, Leaf, RoundClose, RunClose, RunOpen, decode, event, plain
from fedge.audit.trust import Trust
from fedge.encoding import digest
from fedge.errors import AuditError, ParseError, ProofError, SignatureError
from fedge.signing import PublicKey, public_key, unseal


@dataclass(frozen=True)
class Entry:
    """One verified entry: `payload` is its JSON object, `leaf` the same as a record, `raw` the bytes in the log."""

    index: int
    event: str
    payload: Mapping[str, Any]
    leaf: Leaf
    raw: bytes
    signer: str


Story = Sequence[Entry]
Judgement = Callable[[Story, Trust], str]


def read_entries(raw: Sequence[bytes]) -> list[Entry]:
    """Return the entries after checking each signature against the key that the log itself gave its signer.

    Raises ParseError or SignatureError with the number of the entry.
    """
    if not raw:
        raise ProofError("the log is empty")
    entries: list[Entry] = []
    keys: dict[str, PublicKey] = {}
    for index, data in enumerate(raw):
        try:
            entries.append(_read_entry(index, data, keys))
        except AuditError as error:
            raise type(error)(f"entry {index}: {error}") from error
    return entries


def _read_entry(index: int, data: bytes, keys: dict[str, PublicKey]) -> Entry:
    leaf, envelope = decode(data)
    if index == 0:
        if not isinstance(leaf, RunOpen):
            raise ParseError(f"a log begins with run_open, this one with {event(type(leaf))}")
        keys["server"] = public_key(leaf.server_key)
    elif isinstance(leaf, RunOpen):
        raise ProofError("a second run_open")
    signer = getattr(leaf, "client", "") if leaf.party == "client" else "server"
    if signer not in keys:
        raise SignatureError(f"client {signer!r} speaks without being enrolled")
    unseal(envelope, envelope.payload_type, keys[signer])
    if isinstance(leaf, ClientEnrol):
        if leaf.client in keys:
            raise ProofError(f"client {leaf.client!r} is enrolled twice, or is called like the server")
        keys[leaf.client] = public_key(leaf.key)
    return Entry(index, event(type(leaf)), plain(leaf), leaf, data, signer)


def one_run(story: Story, trust: Trust) -> str:
    """Every entry belongs to the run that the first names, and the policy file trusts the keys that the log names."""
    opening = _opening(story)
    strays = [e.index for e in story if e.leaf.run != opening.run]
    if strays:
        raise ProofError(f"entry {strays[0]} belongs to another run")
    if trust.log.text != opening.log_key or trust.log.name != f"fedge/{opening.run}":
        raise ProofError("the policy file trusts another log key than the one in the first entry")
    enrolled = [e.leaf for e in story if isinstance(e.leaf, ClientEnrol)]
    if {k.text for k in trust.witnesses.values()} != {e.witness_key for e in enrolled}:
        raise ProofError("the policy file does not name exactly the witnesses that the log enrolled")
    organisations = {e.witness_key.split("+")[0]: e.organisation for e in enrolled}
    if trust.organisations != organisations or trust.quorum != opening.quorum:
        raise ProofError("the policy file groups witnesses, or sets the quorum, differently from the log")
    return f"run {opening.run}, opened {opening.at}, {len(enrolled)} clients enrolled"


def unbroken_chains(story: Story, _trust: Trust) -> str:
    """Each client's entries count from 0 without a gap, and each names the one before."""
    ends: dict[str, tuple[int, str | None]] = {}
    for entry in story:
        if entry.leaf.party != "client":
            continue
        seq, previous = ends.get(entry.signer, (0, None))
        if (entry.payload["seq"], entry.payload["previous"]) != (seq, previous):
            raise ProofError(f"entry {entry.index}: the chain of {entry.signer} has a gap at statement {seq}")
        ends[entry.signer] = (seq + 1, digest(entry.raw))
    return f"{sum(n for n, _ in ends.values())} statements of {len(ends)} clients, none missing between them"


def unbroken_models(story: Story, _trust: Trust) -> str:
    """Rounds count from 1 without a gap, each model follows from the one before, and every update was stated."""
    model, count = _opening(story).initial_model, 0
    uses = [e.leaf for e in story if isinstance(e.leaf, DataUse)]
    for entry in story:
        if not isinstance(entry.leaf, RoundClose):
            continue
        count += 1
        closing = entry.leaf
        if closing.round != count or closing.model_in != model:
            raise ProofError(f"entry {entry.index}: round {closing.round} does not follow from the one before")
        if closing.void and closing.model_out != model:
            raise ProofError(f"entry {entry.index}: void round {closing.round} changed the model")
        _check_participants(entry.index, closing, uses)
        model = closing.model_out
    return f"{count} rounds, each model follows from the one before, every update in it was stated by its client"


def closed_as_counted(story: Story, _trust: Trust) -> str:
    """The last entry, if it closes the run, counts rounds and entries as they are."""
    closings = [e for e in story if isinstance(e.leaf, RunClose)]
    if not closings:
        return "the run is not closed: it was stopped, is going on, or its end is missing"
    if len(closings) > 1 or closings[0] is not story[-1]:
        raise ProofError(f"entry {closings[0].index} closes the run, yet it is not the last")
    closing = closings[0].leaf
    rounds = [e.leaf for e in story if isinstance(e.leaf, RoundClose)]
    counted = {e.payload["client"]: 0 for e in story if e.event == "client_enrol"}
    for entry in story:
        if entry.leaf.party == "client":
            counted[entry.signer] += 1
    final = rounds[-1].model_out if rounds else _opening(story).initial_model
    if not isinstance(closing, RunClose) or (closing.rounds, dict(closing.leaves), closing.model) != (
        len(rounds),
        counted,
        final,
    ):
        raise ProofError("the closing entry counts rounds, entries or the model differently from the log")
    return f"closed {closing.at} after {closing.rounds} rounds"


def budgets_held(story: Story, _trust: Trust) -> str:
    """No client states a total above its budget, and no total ever falls: privacy is not refunded."""
    totals: dict[tuple[str, str], float] = {}
    for entry in story:
        if not isinstance(entry.leaf, DataUse) or entry.leaf.privacy.epsilon_total is None:
            continue
        use = entry.leaf
        key, total = (use.client, use.dataset.lineage), float(entry.leaf.privacy.epsilon_total)
        if total < totals.get(key, 0.0) - 1e-9:
            raise ProofError(f"entry {entry.index}: the epsilon that {use.client} has spent went down")
        if use.privacy.budget_epsilon is not None and total > float(use.privacy.budget_epsilon) + 1e-9:
            raise ProofError(f"entry {entry.index}: {use.client} has spent more epsilon than its budget")
        totals[key] = total
    return f"{len(totals)} data budgets held, no total ever fell (as the clients state it)"


def final_model(story: Story) -> str:
    """Return the digest of the model that the log ends with."""
    rounds = [e.leaf for e in story if isinstance(e.leaf, RoundClose)]
    return rounds[-1].model_out if rounds else _opening(story).initial_model


def _check_participants(index: int, closing: RoundClose, uses: Sequence[DataUse]) -> None:
    accepted = [p.client for p in closing.participants if p.outcome == "accepted"]
    if closing.accepted != len(accepted):
        raise ProofError(f"entry {index}: round {closing.round} counts its accepted updates wrongly")
    stated = {u.client: u for u in uses if (u.work, u.round, u.outcome) == ("train", closing.round, "submitted")}
    for client in accepted:
        if client not in stated or stated[client].model_in != closing.model_in:
            raise ProofError(f"entry {index}: the update of {client} in round {closing.round} was never stated by it")


def _opening(story: Story) -> RunOpen:
    opening = story[0].leaf
    if not isinstance(opening, RunOpen):
        raise ProofError("the log does not begin with run_open")
    return opening
