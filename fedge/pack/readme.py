"""What stands beside a pack: what its files are, and how to check them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedge.reports.markdown import escaped
from fedge.reports.visible import visible

TEXT = """# Report of {names}

Made {made_at}. {signature} SHA-256 of `report.json`: `{digest}`

## What is here

| File | What |
|---|---|
| `report.json` | the report: every figure with its grade and the log entries it came from; canonical JSON (RFC 8785) |
| `report.html`, `report.pdf` | the same for reading |
| `data_use.csv`, `events.csv`, `withdrawals.csv`, `ropa.csv` | for spreadsheets, with what the page leaves out |
| `model-card…`, `ml-bom…` | model card and CycloneDX bill of materials of the trained model |
| `manifest.json` | the digest of each file{signed} |
| `verify.py` | the verifier: one file, needs Python 3.11 and the package `cryptography` |
| `pack.zip` | all of this, and below `runs/` the public files of each run: log, receipts, configuration, model |

## How to check it

1. Unpack `pack.zip`. Get the policy file from somebody you trust, not from here: it names the keys you believe.
2. Check each log, without fedge and without a network:

       pip install cryptography
       python verify.py runs/RUN --policy policy.txt

3. Check the report against the logs:

       pip install 'fedge[pdf]'
       fedge report check .

   It makes the report again from the log and compares every figure and every file; an edited number is named.

## What it does not prove

Counts of records, permissions and noise are what each client signed: attested, not proven. No log can show what a
client left out. This is evidence, never a legal assessment.
"""


def readme(report: Mapping[str, Any], digest: str) -> str:
    """Return the README of the pack of `report`."""
    signer = report["signer"]
    whose = {"server": "the key of the run's server", "given": "a key that its maker gave"}
    signature = f"Signed by {whose[signer['whose']]}, `{signer['key']}`." if signer else "Not signed."
    names = ", ".join(escaped(visible(run["name"])) for run in report["runs"])
    signed = ", signed (DSSE)" if signer else ""
    return TEXT.format(names=names, made_at=report["made_at"], signature=signature, digest=digest, signed=signed)
