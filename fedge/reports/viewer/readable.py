"""Values as templates of the viewer show them: every text made visible, markup left as it is."""

from __future__ import annotations

from typing import Any

from fedge.reports.visible import visible


def shown(value: Any) -> Any:
    """Return `value` as a template shows it: a text is `visible`; markup stays, for it was made of such."""
    return visible(value) if type(value) is str else value
