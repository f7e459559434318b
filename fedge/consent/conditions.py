"""Conditions of a permission: GA4GH data-use modifiers and their like. They restrict; none of them ever permits.

A condition is met by a fact that the client's operator has stated about the use (`Request.facts`). A condition that is
unknown, or that needs a value and has none, is met by nothing: the record stays out, and the reason names it.

| condition | DUO | met by the facts |
|---|---|---|
| NPUNCU | DUO:0000018 | non_commercial and not_for_profit |
| NCU | DUO:0000046 | non_commercial |
| NPU | DUO:0000045 | not_for_profit |
| IRB | DUO:0000021 | ethics_approval |
| NMDS | DUO:0000015 | no_methods_development |
| NPOA | DUO:0000044 | no_ancestry_research |
| GSO | DUO:0000016 | genetic_study |
| PUB | DUO:0000019 | will_publish |
| COL | DUO:0000020 | collaboration |
| RTN | DUO:0000029 | will_return_results |
| US=NAME | DUO:0000026 | user=NAME |
| PS=NAME | DUO:0000027 | project=NAME |
| IS=NAME | DUO:0000028 | institution=NAME |
| GS=PLACE | DUO:0000022 | place=PLACE |
| RS=TOPIC | DUO:0000012 | topic=TOPIC |
| DS=DISEASE | DUO:0000007 | disease=DISEASE |
| ACTOR=REFERENCE | | actor=REFERENCE |
| LABEL=CODE | | label=CODE |

A moratorium (MOR, DUO:0000024) and a time limit (TS, DUO:0000025) are met by nothing: state them as `valid_from` and
`valid_until`.

Source: http://purl.obolibrary.org/obo/duo.owl
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from types import MappingProxyType

from fedge.consent.purposes import short

NEEDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "NPUNCU": ("non_commercial", "not_for_profit"),
        "NCU": ("non_commercial",),
        "NPU": ("not_for_profit",),
        "IRB": ("ethics_approval",),
        "NMDS": ("no_methods_development",),
        "NPOA": ("no_ancestry_research",),
        "GSO": ("genetic_study",),
        "PUB": ("will_publish",),
        "COL": ("collaboration",),
        "RTN": ("will_return_results",),
    }
)
NEEDS_VALUE: Mapping[str, str] = MappingProxyType(
    {
        "US": "user",
        "PS": "project",
        "IS": "institution",
        "GS": "place",
        "RS": "topic",
        "DS": "disease",
        "ACTOR": "actor",
        "LABEL": "label",
    }
)
DUO: Mapping[str, str] = MappingProxyType(
    {
        "DUO:0000018": "NPUNCU",
        "DUO:0000046": "NCU",
        "DUO:0000045": "NPU",
        "DUO:0000021": "IRB",
        "DUO:0000015": "NMDS",
        "DUO:0000044": "NPOA",
        "DUO:0000016": "GSO",
        "DUO:0000019": "PUB",
        "DUO:0000020": "COL",
        "DUO:0000029": "RTN",
        "DUO:0000026": "US",
        "DUO:0000027": "PS",
        "DUO:0000028": "IS",
        "DUO:0000022": "GS",
        "DUO:0000012": "RS",
        "DUO:0000024": "MOR",
        "DUO:0000025": "TS",
    }
)


def condition(text: str) -> str:
    """Return a condition in its short spelling: `DUO:0000022=DE` is `GS=DE`; an unknown one stays as it is."""
    code, equals, value = text.partition("=")
    brief = short(code.strip())
    return DUO.get(brief, brief) + equals + value.strip()


def is_condition(text: str) -> bool:
    """Return whether `text` is a condition that this table knows, in either spelling."""
    code = condition(text).partition("=")[0]
    return code in NEEDS or code in NEEDS_VALUE or code in DUO.values()


def unmet(conditions: Iterable[str], facts: Set[str]) -> str | None:
    """Return the first of `conditions` that `facts` do not meet, or None if they meet all."""
    return next((c for c in conditions if not _met(condition(c), facts)), None)


def _met(text: str, facts: Set[str]) -> bool:
    code, _, value = text.partition("=")
    if code in NEEDS:
        return all(fact in facts for fact in NEEDS[code])
    return bool(value) and code in NEEDS_VALUE and f"{NEEDS_VALUE[code]}={value}" in facts
