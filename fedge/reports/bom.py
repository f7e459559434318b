"""The bill of materials of a trained model: CycloneDX 1.6, with its data sets, its software, its scores.

Source: https://cyclonedx.org/docs/1.6/json/ (machine-learning-model, modelCard). A test holds it to the schema.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from fedge.reports.document.say import Say
from fedge.reports.visible import visible
from fedge.reports.words import words

NAMESPACE = uuid.UUID("6f1a1f3e-0f5c-5d0e-9a3a-6f1d5b0c7e21")
"""From which serial numbers are derived: the same report has the same."""


def bom(report: Mapping[str, Any], index: int, digest: str) -> str:
    """Return the bill of materials of the model that run number `index` of `report` ends with."""
    say = Say(words(report["language"]), report["runs"][index], index)
    found = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, f'{digest} {index}')}",
        "version": 1,
        "metadata": {
            "timestamp": report["made_at"],
            "tools": {"components": [{"type": "application", "name": "fedge", "version": report["made_by"]}]},
            "component": _model(say),
            "properties": [{"name": "fedge:report.json", "value": digest}],
        },
        "components": [*_data(say), *_software(say)],
    }
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _model(say: Say) -> dict[str, Any]:
    run, scores = say.run["run"], say.run["evaluations"]["central"]["values"]
    limits = [say(f"limits.{key}") for key in ("l1", "l4", "erasure")]
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": visible(say.value(run["task"])),
        "version": visible(say.run["name"]),
        **_hashes(run["final_model"]["value"]),
        "modelCard": {
            "modelParameters": {
                "task": visible(say.value(run["task"])),
                "datasets": [{"ref": component["bom-ref"]} for component in _data(say)],
            },
            "quantitativeAnalysis": {
                "performanceMetrics": [{"type": m, "value": v} for m, v in sorted(scores.items())],
            },
            "considerations": {"technicalLimitations": limits},
        },
        "properties": _privacy(say),
    }


def _privacy(say: Say) -> list[dict[str, str]]:
    promise, epsilon = say.run["privacy"], say.run["totals"]["epsilon"]["value"]
    said = {name: promise[name]["value"] for name in ("unit", "adjacency", "delta", "accountant", "noise_at")}
    said |= {"epsilon_largest": epsilon, "purpose": say.run["run"]["purpose"]["value"]}
    return [
        {"name": f"fedge:{name}", "value": visible(str(value))} for name, value in said.items() if value is not None
    ]


def _hashes(digest: str | None) -> dict[str, Any]:
    if digest is None:
        return {}
    return {"hashes": [{"alg": "SHA-256", "content": visible(digest.removeprefix("sha256:"))}]}


def _data(say: Say) -> list[dict[str, Any]]:
    """Return the data sets: their names, where they come from; never a record, and never where they lie."""
    return [
        {
            "type": "data",
            "bom-ref": f"data-{number}",
            "name": visible(say.value(client["data"]["lineage"])),
            "version": visible(say.value(client["data"]["version"])),
            "description": visible(say.value(client["data"]["origin"])),
            "supplier": {"name": visible(say.value(client["organisation"]))},
        }
        for number, client in enumerate(say.run["clients"])
        if client["data"]["lineage"]["value"] is not None
    ]


def _software(say: Say) -> list[dict[str, Any]]:
    run = say.run["run"]
    if run["code_version"]["value"] is None:
        return []
    packages = run["packages_digest"]["value"]
    return [
        {
            "type": "library",
            "bom-ref": "training-code",
            "name": "fedge",
            "version": visible(str(run["code_version"]["value"])),
            "properties": [{"name": "fedge:packages_digest", "value": visible(str(packages))}],
        }
    ]
