"""What changed between two reports: who, for what, with which data, code, rules and budgets.

A change of these may be a substantial modification (Regulation (EU) 2024/1689, Art. 3(23)): whether it is, people
judge. Runs are compared in pairs, in the order in which the reports name them. What always differs (times, models,
totals) is not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Plain = Mapping[str, Any]

RUN = {
    "purpose": "purpose",
    "task": "task",
    "strategy": "code",
    "aggregation": "code",
    "code_version": "code",
    "packages_digest": "code",
    "config_digest": "configuration",
    "model_format": "code",
    "quorum": "policy",
}
"""Member of a run's opening -> what kind of change it is."""
PROMISE = ("unit", "adjacency", "accountant", "sampling", "delta", "noise_source", "noise_at")
CLIENT = {
    "organisation": "participants",
    "key": "participants",
    "purposes": "purpose",
    "legal_bases": "purpose",
    "codes": "code",
    "secure_aggregation": "privacy",
}
DATA = {
    "lineage": "data",
    "version": "data",
    "origin": "data",
    "purpose_of_collection": "purpose",
    "schema_digest": "data",
}
MECHANISM = {
    "budget": "budget",
    "unit": "privacy",
    "mechanism": "privacy",
    "noise_multiplier": "privacy",
    "clip_norm": "privacy",
}
SUBSTANTIAL = frozenset({"purpose", "task", "participants", "code", "data", "privacy", "policy"})
"""Kinds that may be a substantial modification; a budget or a setting alone is flagged only if one of these follows."""


@dataclass(frozen=True)
class Change:
    """One difference; `where` is the client, or `run`; of several runs, with the name of the later one."""

    kind: str
    where: str
    what: str
    before: str
    after: str

    @property
    def substantial(self) -> bool:
        """Whether people should ask themselves if this is a substantial modification."""
        return self.kind in SUBSTANTIAL


def changes(before: Plain, after: Plain) -> list[Change]:
    """Return what changed from report `before` to report `after`, kind by kind."""
    found: list[Change] = []
    old, new = before["runs"], after["runs"]
    for one, other in zip(old, new, strict=False):
        found += _run(one, other, f"{other['name']}: " if len(new) > 1 else "")
    found += [Change("participants", run["name"], "run", "present", "absent") for run in old[len(new) :]]
    found += [Change("participants", run["name"], "run", "absent", "present") for run in new[len(old) :]]
    return sorted(found, key=lambda c: (c.kind, c.where, c.what))


def _run(old: Plain, new: Plain, prefix: str) -> Iterator[Change]:
    where = f"{prefix}run"
    for name, kind in RUN.items():
        yield from _figure(kind, where, name, old["run"].get(name), new["run"].get(name))
    for name in PROMISE:
        yield from _figure("privacy", where, name, old["privacy"].get(name), new["privacy"].get(name))
    clients = [{c["client"]: c for c in run["clients"]} for run in (old, new)]
    for client in sorted(clients[0].keys() | clients[1].keys()):
        yield from _client(f"{prefix}{client}", clients[0].get(client), clients[1].get(client))


def _client(where: str, old: Plain | None, new: Plain | None) -> Iterator[Change]:
    if old is None or new is None:
        yield Change("participants", where, "client", *("absent", "present") if old is None else ("present", "absent"))
        return
    for name, kind in CLIENT.items():
        yield from _figure(kind, where, name, old[name], new[name])
    for part, names in (("data", DATA), ("privacy", MECHANISM)):
        for name, kind in names.items():
            yield from _figure(kind, where, name, old[part][name], new[part][name])
    yield from _figure(
        "policy", where, "policy_digest", old["permission"]["policy_digest"], new["permission"]["policy_digest"]
    )
    yield from _figure("policy", where, "engine", old["permission"]["engine"], new["permission"]["engine"])


def _figure(kind: str, where: str, what: str, old: Plain | None, new: Plain | None) -> Iterator[Change]:
    one, other = (_said(figure) for figure in (old, new))
    if one != other:
        yield Change(kind, where, what, one, other)


def _said(figure: Plain | None) -> str:
    value = figure["value"] if figure else None
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(sorted(map(str, value)))
    return "—" if value is None else str(value)
