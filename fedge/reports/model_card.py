"""The model card of a trained model: metadata that model hubs read, then what the log says of it.

Format: https://huggingface.co/docs/hub/model-cards, with the metadata of
https://github.com/huggingface/hub-docs/blob/main/modelcard.md. What only the provider knows is marked, never invented.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from fedge.reports.document import data, keeping, opening, results
from fedge.reports.document.blocks import Block
from fedge.reports.document.say import Say
from fedge.reports.markdown import escaped, markdown
from fedge.reports.visible import visible
from fedge.reports.words import words


def model_card(report: Mapping[str, Any], index: int, digest: str) -> str:
    """Return the card of the model that run number `index` of `report` ends with."""
    say = Say(words(report["language"]), report["runs"][index], index)
    head = yaml.safe_dump(_metadata(say, report["language"]), sort_keys=False, allow_unicode=True)
    body = markdown(_blocks(say))
    title = escaped(visible(opening.title(say.words, dict(report) | {"runs": [say.run]})))
    return f"---\n{head}---\n\n# {title}\n\nreport.json `{digest}`\n\n{body}\n"


def _blocks(say: Say) -> Iterator[Block]:
    yield from opening.verdicts([say])
    yield from opening.limits([say])
    if say.run["run"]["run"]["value"] is not None:
        for part in (opening.run, data.who, data.data, data.permission, results.privacy, results.quality):
            yield from part(say)
        yield from keeping.resources(say)


def _metadata(say: Say, language: str) -> dict[str, Any]:
    run, scores = say.run["run"], say.run["evaluations"]["central"]["values"]
    task = visible(say.value(run["task"]))
    name = visible(say.run["name"])
    found: dict[str, Any] = {
        "language": language,
        "license": "other",
        "license_name": "provider-must-complete",
        "library_name": "fedge",
        "tags": ["federated-learning", "differential-privacy", "fedge"],
    }
    if scores:
        result = {
            "task": {"type": "other", "name": task},
            "dataset": {"type": task, "name": f"{task}: public test set"},
            "metrics": [{"type": m, "value": float(v), "name": m} for m, v in sorted(scores.items())],
        }
        found["model-index"] = [{"name": name, "results": [result]}]
    return found
