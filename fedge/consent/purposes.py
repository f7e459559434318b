"""A small hierarchy of purposes, and the public codes that mean them.

A permission for a purpose covers the purposes below it, never those above. A no touches the purposes below it and those
above it: who asks for a purpose asks for all that lies below, and a no to a part of that is a no; ask for the narrower
purpose that is really needed. An unknown purpose covers nothing.

| purpose | under | DPV 2.3 | GA4GH DUO | HL7 v3-ActReason |
|---|---|---|---|---|
| any-use | | dpv:Purpose | DUO:0000004 (NRES) | |
| any-research | any-use | dpv:ResearchAndDevelopment, dpv:ScientificResearch | DUO:0000042 (GRU) | RESCH |
| health-research | any-research | | DUO:0000006 (HMB) | HRESCH, BIORCH |
| disease-research | health-research | | DUO:0000007 (DS) | DSRCH |
| clinical-research | health-research | | | CLINTRCH, CLINTRCHNPC, CLINTRCHPC, PRECLINTRCH |
| translational-research | health-research | | | TRANSRCH |
| ancestry-research | any-research | | DUO:0000011 (POA) | POARCH |
| algorithm-training | any-research | | | |
| public-health | any-use | | | PUBHLTH |
| care | any-use | | DUO:0000043 (CC) | TREAT, ETREAT, CAREMGT |
| care-improvement | any-use | dpv:ImproveHealthcare | | HQUALIMP |
| administration | any-use | | | HPAYMT, HOPERAT, PATADMIN, COVERAGE |
| commercial | any-use | dpv:CommercialPurpose, dpv:Marketing | | HMARKT, MARKT |

`algorithm-training` is what Regulation (EU) 2025/327, Art. 53 names "training, testing and evaluation of algorithms";
none of the three vocabularies has a code for it.

Sources: https://w3id.org/dpv, http://purl.obolibrary.org/obo/duo.owl, https://terminology.hl7.org/CodeSystem/v3-ActReason
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fedge.errors import PermissionRecordError

ANY = "any-use"
"""The root: a grant for it permits everything, a no to it forbids everything."""
PARENTS: Mapping[str, str | None] = MappingProxyType(
    {
        ANY: None,
        "any-research": ANY,
        "health-research": "any-research",
        "disease-research": "health-research",
        "clinical-research": "health-research",
        "translational-research": "health-research",
        "ancestry-research": "any-research",
        "algorithm-training": "any-research",
        "public-health": ANY,
        "care": ANY,
        "care-improvement": ANY,
        "administration": ANY,
        "commercial": ANY,
    }
)
CODES: Mapping[str, str] = MappingProxyType(
    {
        "dpv:Purpose": ANY,
        "DUO:0000004": ANY,
        "dpv:ResearchAndDevelopment": "any-research",
        "dpv:ScientificResearch": "any-research",
        "DUO:0000042": "any-research",
        "RESCH": "any-research",
        "DUO:0000006": "health-research",
        "HRESCH": "health-research",
        "BIORCH": "health-research",
        "DUO:0000007": "disease-research",
        "DSRCH": "disease-research",
        "CLINTRCH": "clinical-research",
        "CLINTRCHNPC": "clinical-research",
        "CLINTRCHPC": "clinical-research",
        "PRECLINTRCH": "clinical-research",
        "TRANSRCH": "translational-research",
        "DUO:0000011": "ancestry-research",
        "POARCH": "ancestry-research",
        "PUBHLTH": "public-health",
        "DUO:0000043": "care",
        "TREAT": "care",
        "ETREAT": "care",
        "CAREMGT": "care",
        "dpv:ImproveHealthcare": "care-improvement",
        "HQUALIMP": "care-improvement",
        "HPAYMT": "administration",
        "HOPERAT": "administration",
        "PATADMIN": "administration",
        "COVERAGE": "administration",
        "dpv:CommercialPurpose": "commercial",
        "dpv:Marketing": "commercial",
        "HMARKT": "commercial",
        "MARKT": "commercial",
    }
)
PREFIXES: Mapping[str, str] = MappingProxyType(
    {
        "https://w3id.org/dpv#": "dpv:",
        "http://purl.obolibrary.org/obo/DUO_": "DUO:",
        "DUO_": "DUO:",
        "http://terminology.hl7.org/CodeSystem/v3-ActReason|": "",
        "http://terminology.hl7.org/CodeSystem/v3-ActReason#": "",
    }
)
"""Longer spellings of the same codes, as other systems write them."""


def short(word: str) -> str:
    """Return a public code in its short spelling: `http://purl.obolibrary.org/obo/DUO_0000006` is `DUO:0000006`."""
    for long, brief in PREFIXES.items():
        if word.startswith(long):
            return brief + word.removeprefix(long)
    return word


def purpose(word: str) -> str:
    """Return the purpose that `word` (a name or a public code) means. Raises PermissionRecordError."""
    code = short(word)
    name = CODES.get(code, code)
    if name not in PARENTS:
        raise PermissionRecordError(
            f"unknown purpose {word!r}; known: {', '.join(sorted(PARENTS))}, or one of their codes"
        )
    return name


def covers(granted: str, wanted: str) -> bool:
    """Return whether a permission for `granted` covers `wanted`; both are names of purposes."""
    step: str | None = wanted if wanted in PARENTS else None
    while step is not None:
        if step == granted:
            return True
        step = PARENTS[step]
    return False


def touches(denied: str, wanted: str) -> bool:
    """Return whether a no to `denied` forbids `wanted`: it is the same, below or above; both are names of purposes."""
    return covers(denied, wanted) or covers(wanted, denied)
