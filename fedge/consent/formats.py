"""Which form a file of permissions has: told from its first line, unless somebody says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from fedge.consent import fhir
from fedge.consent.importing import Entry
from fedge.consent.jsonl import unique
from fedge.consent.sources import LONGEST_LINE, lines, opened
from fedge.errors import PermissionRecordError

Form = Literal["fhir", "jsonl", "csv"]
LINEWISE = frozenset({".ndjson", ".jsonl"})
LARGEST_DOCUMENT = 2**30
"""Characters of one JSON document, which is read whole; NDJSON has no such bound."""


def detect(path: Path, encoding: str | None = None) -> Form:
    """Return the form of `path`. Raises PermissionRecordError if it is empty."""
    first = next(lines(path, encoding), None)
    if first is None:
        raise PermissionRecordError(f"{path} is empty")
    text = first[1].lstrip()
    if not text.startswith(("{", "[")):
        return "csv"
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError):
        return "fhir" if not text.rstrip().endswith("}") else "jsonl"  # a document that goes on, or a damaged line
    return "jsonl" if isinstance(plain, dict) and "act" in plain and "resourceType" not in plain else "fhir"


def fhir_entries(path: Path, how: fhir.How, encoding: str | None = None) -> Iterator[Entry]:
    """Yield entries of a file of FHIR resources: one JSON document, or NDJSON as a Bulk Data export gives it."""
    if _is_document(path, encoding):
        with opened(path, encoding) as text:
            whole = text.read(LARGEST_DOCUMENT + 1)
        if len(whole) > LARGEST_DOCUMENT:
            raise PermissionRecordError(f"{path} is one document larger than 1 GiB; export it as NDJSON")
        yield from _parsed("document", whole, how)
        return
    for number, line in lines(path, encoding):
        yield from _parsed(f"line {number}", line, how)


def _is_document(path: Path, encoding: str | None) -> bool:
    """Return whether the first line is not a whole JSON value: then the file is one document over many lines."""
    if path.suffix in LINEWISE:
        return False
    with opened(path, encoding) as text:
        first = next((line for line in iter(lambda: text.readline(LONGEST_LINE), "") if line.strip()), "")
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return True
    return False


def _parsed(place: str, text: str, how: fhir.How) -> Iterator[Entry]:
    try:
        value: Any = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        yield Entry(place, refused=f"not JSON: {error}")
        return
    try:
        yield from fhir.entries(value, place, how)
    except RecursionError:
        yield Entry(place, refused="Bundles within Bundles, deeper than can be read")
