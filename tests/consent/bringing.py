"""Stores, files and readings that the tests of imports share."""

import json
from pathlib import Path
from typing import Any

from fedge.consent import fhir, tabular
from fedge.consent.formats import fhir_entries
from fedge.consent.grants import Reason
from fedge.consent.importing import ImportReport, take
from fedge.consent.store import PermissionStore
from tests.consent.cases import NOW

HOW = fhir.How(now=NOW)
HERE = tabular.Layout(now=NOW)


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def bring(store: PermissionStore, path: Path, how: fhir.How = HOW, **more: Any) -> ImportReport:
    return take(store, fhir_entries(path, how), NOW, **more)


def verdict(store: PermissionStore, subject: str = "anna") -> Reason:
    return Reason(int(store.judge((subject,), "HRESCH", NOW).codes[0]))


def ndjson(*resources: Any) -> str:
    return "".join(f"{json.dumps(r)}\n" for r in resources)
