"""Strings from others, made harmless to read: what cannot be seen, or moves what is beside it, is written out.

A client chooses how its data set is called, a server how its task is. Control characters, marks that turn the direction
of writing (RTL override: `exe.fdp` reads `pdf.exe`), and characters of no width could make a reader see another text
than the one that was signed. They are shown as `⟨U+202E⟩`. Escaping for HTML, Typst or CSV comes on top, where each is
written. Sources: Unicode TR 36 and TR 39; CVE-2021-42574 ("Trojan Source").
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories: control, format, surrogate, private use, unassigned, line and paragraph separator."""
PLAIN = frozenset("\n\t")
MARKS = 4
"""Combining marks on one letter that are shown; more would climb over the lines above."""
NUMBER = re.compile(r"[+-]?\d[\d.,]*(?:[eE][+-]?\d+)?", re.ASCII)
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
"""What makes a spreadsheet compute a cell (OWASP, CSV injection)."""


def visible(text: str) -> str:
    """Return `text` as it is read: hidden characters written out, marks that pile up on one letter left out."""
    if text.isascii() and text.isprintable():
        return text
    shown, marks = [], 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category == "Mn" else 0
        if category in HIDDEN and character not in PLAIN:
            shown.append(f"⟨U+{ord(character):04X}⟩")
        elif marks <= MARKS:
            shown.append(character)
    return "".join(shown)


def shown(value: Any) -> Any:
    """Return `value` as a template shows it: a text is `visible`; markup stays, for it was made of such."""
    return visible(value) if type(value) is str else value


def csv_cell(value: object) -> str:
    """Return `value` as the text of a CSV cell that no spreadsheet takes for a formula; a plain number stays one."""
    text = "" if value is None else str(value)
    if text[:1].isalnum() and text.isascii() and text.isprintable():  # almost all of them
        return text
    text = visible(text)
    if text.lstrip().startswith(FORMULA) and not NUMBER.fullmatch(text):
        return f"'{text}"
    return text
