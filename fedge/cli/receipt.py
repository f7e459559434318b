"""`fedge receipt`: how one person's data was used, for that person, with the proofs beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fedge.audit.log import POLICY
from fedge.audit.verify import Entry
from fedge.cli.clients import client_of_run, person_of_run, stores_of
from fedge.cli.consent.send import profile_of
from fedge.cli.entries import RunArgument, entries_of
from fedge.cli.evidence import proofs
from fedge.cli.lineage import ClientOption, IdentifierOption, SubjectOption
from fedge.cli.output import console
from fedge.consent import dpv
from fedge.consent.events import EVERYONE
from fedge.consent.request import Request
from fedge.encoding import timestamp, utc_now
from fedge.errors import ConfigError
from fedge.files import write_atomically
from fedge.reports.receipt import PersonalReceipt, Said, Used, render
from fedge.rounds import lineage
from fedge.rounds.erasure import Stores
from fedge.rounds.lineage import Use

PAGE, RECORD = "how-my-data-was-used.html", "consent-record.jsonld"


def receipt_command(
    run: RunArgument,
    client: ClientOption,
    subject: SubjectOption,
    out: Annotated[Path, typer.Option(help="A new folder for the page, the proofs and the policy file.")],
    identifier: IdentifierOption = False,
    profile: Annotated[
        Path | None,
        typer.Option(help="What only the controller knows (YAML); adds the TS 27560 consent record."),
    ] = None,
) -> None:
    """Write a person's receipt: a page in plain words, and a proof for each use, that anybody can check offline."""
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"--out: {out} is not empty; a receipt is written to a new folder")
    stores, entries = stores_of(client_of_run(run, client)), entries_of(run)
    name = str(entries[0].payload["run"])
    person = person_of_run(stores, name, subject, identifier)
    found = lineage.uses(stores.memory, stores.approvals, name, person)
    consent = _consent_record(stores, person, profile)
    receipt = _receipt(stores, entries, person, found, has_record=consent is not None)
    used = {u.entry: u.proof for u in receipt.used}
    for proof in proofs(run, entries, list(used)):
        write_atomically(out / used[proof.index], proof.text.encode())
    write_atomically(out / POLICY, (run / "audit" / POLICY).read_bytes())
    if consent is not None:
        write_atomically(out / RECORD, consent.encode())
    write_atomically(out / PAGE, render(receipt).encode())
    console.print(str(out / PAGE), soft_wrap=True)
    console.print(f"{len(used)} proofs; check one with: fedge audit receipt {out}/proofs/FILE --policy {out}/{POLICY}")


def _receipt(
    stores: Stores, entries: Sequence[Entry], person: str, found: Sequence[Use], *, has_record: bool
) -> PersonalReceipt:
    opening, client = entries[0].payload, stores.folder.root.resolve().name
    places = {(e.signer, e.payload["seq"]): e.index for e in entries if e.by_client}
    data_sets = [u.leaf.dataset.lineage for u in found if u.leaf.work == "train"]
    wanted = Request(opening["purpose"], data_sets[-1] if data_sets else None)
    decision = stores.permissions.decide(person, wanted, stores.permissions.present(utc_now()))
    logged = [u for u in found if (u.leaf.client, u.seq) in places]
    asked = sum(e.event == "data_use" and e.signer == client for e in entries)
    return PersonalReceipt(
        person=person,
        client=client,
        run=str(opening["run"]),
        task=str(opening["task"]),
        purpose=str(opening["purpose"]),
        made_at=timestamp(utc_now()),
        now=decision.reason.name,
        said=_said(stores, person),
        rounds=asked,
        pooled=sum(u.pooled for u in logged),
        used=[_used(u, places[u.leaf.client, u.seq]) for u in logged if u.read],
        models=lineage.models_with(entries, found),
        delta=opening["privacy_statement"]["delta"],
        unit=opening["privacy_statement"]["unit"],
        seeded=opening["privacy_statement"]["noise_source"].startswith("seeded"),
        consent_record=RECORD if has_record else None,
    )


def _used(use: Use, entry: int) -> Used:
    leaf = use.leaf
    return Used(
        entry=entry,
        proof=f"proofs/entry-{entry:06d}.tlog-proof",
        at=leaf.at,
        work=leaf.work,
        round=leaf.round,
        outcome=leaf.outcome,
        reason=leaf.reason,
        epsilon_total=leaf.privacy.epsilon_total,
    )


def _said(stores: Stores, person: str) -> list[Said]:
    return [
        Said(e.recorded_at, e.act, e.kind, tuple(e.purposes), e.valid_until, e.subject == EVERYONE)
        for e in stores.permissions.history()
        if e.subject in {person, EVERYONE}
    ]


def _consent_record(stores: Stores, person: str, profile: Path | None) -> str | None:
    """Return the person's consent record as JSON-LD, None without a profile or without any consent."""
    if profile is None:
        return None
    found = list(dpv.records(stores.permissions.history(person), profile_of(profile)))
    return json.dumps(found[0], indent=2, ensure_ascii=False) + "\n" if found else None
