"""A small hierarchy of purposes, and the public codes that mean them.

A permission for a purpose covers the purposes below it, never those above. An unknown purpose covers nothing.

| purpose | under | DPV 2.3 | GA4GH DUO | HL7 v3-ActReason |
|---|---|---|---|---|
| any-research | | dpv:ResearchAndDevelopment | DUO:0000042 (GRU) | RESEARCH |
| health-research | any-research | dpv:ScientificResearch | DUO:0000006 (HMB) | HRESCH |
| disease-research | health-research | | DUO:0000007 (DS) | DSRCH |
| algorithm-training | any-research | dpv:TrainingAIModel | | |
| public-health | | dpv:PublicHealth | | PUBHLTH |
| care-improvement | | dpv:ServiceImprovement | | HQUALIMP |
| commercial | | dpv:CommercialPurpose | | HMARKT |

Sources: https://w3id.org/dpv, http://purl.obolibrary.org/obo/duo.owl, https://terminology.hl7.org/CodeSystem/v3-ActReason
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fedge.errors import PermissionRecordError

PARENTS: Mapping[str, str | None] = MappingProxyType(
    {
        "any-research": None,
        "health-research": "any-research",
        "disease-research": "health-research",
        "algorithm-training": "any-research",
        "public-health": None,
        "care-improvement": None,
        "commercial": None,
    }
)
CODES: Mapping[str, str] = MappingProxyType(
    {
        "dpv:ResearchAndDevelopment": "any-research",
        "DUO:0000042": "any-research",
        "RESEARCH": "any-research",
        "dpv:ScientificResearch": "health-research",
        "DUO:0000006": "health-research",
        "HRESCH": "health-research",
        "DUO:0000007": "disease-research",
        "DSRCH": "disease-research",
        "dpv:TrainingAIModel": "algorithm-training",
        "dpv:PublicHealth": "public-health",
        "PUBHLTH": "public-health",
        "dpv:ServiceImprovement": "care-improvement",
        "HQUALIMP": "care-improvement",
        "dpv:CommercialPurpose": "commercial",
        "HMARKT": "commercial",
    }
)


def purpose(word: str) -> str:
    """Return the purpose that `word` (a name or a public code) means. Raises PermissionRecordError."""
    name = CODES.get(word, word)
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
