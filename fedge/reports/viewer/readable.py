"""Characters that a reader cannot see, shown: what turns text around, hides, or is no text at all.

A client's words may hold marks that turn the direction of writing (U+202E and others), so that a page reads otherwise
than it is stored, or characters of no width, by which two different names look the same.
Source: Unicode Technical Report 36, Unicode Security Considerations.
"""

from __future__ import annotations

import unicodedata
from typing import Any

HIDDEN = frozenset({"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"})
"""Categories of Unicode: control, format (direction, no width), private, surrogate, unassigned, separators of lines."""
PLAIN = frozenset("\n\t")


def visible(text: str) -> str:
    """Return `text` with every hidden character as its number, e.g. ⟨U+202E⟩."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"⟨U+{ord(c):04X}⟩" if c not in PLAIN and unicodedata.category(c) in HIDDEN else c for c in text)


def shown(value: Any) -> Any:
    """Return `value` as a template shows it: a text is `visible`; markup stays, for it was made of such."""
    return visible(value) if type(value) is str else value
