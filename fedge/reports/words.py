"""The fixed texts of reports: one file per language in `languages/`, all with the same keys and placeholders.

    words("de")("verdict.holds")        words("en").reason("no_consent")

A code that has no words (a newer log's, or a stranger's) is shown as it is, its underscores as spaces.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from fedge.errors import ConfigError

LANGUAGES = ("en", "de", "es")


@dataclass(frozen=True)
class Words:
    """The texts of one language, by section and key."""

    language: str
    texts: Mapping[str, Mapping[str, str]]

    def __call__(self, key: str, /, **values: Any) -> str:
        """Return the text `section.key`, its placeholders filled. KeyError for one that no language has."""
        section, _, name = key.partition(".")
        return self.texts[section][name].format(**values)

    def of(self, section: str, code: str | None) -> str:
        """Return the word for a code of the log, or the code itself if it has none."""
        if not code:
            return "—"
        return self.texts[section].get(code.replace(" ", "_").replace(",", "_"), code.replace("_", " "))

    def reason(self, code: str | None) -> str:
        """Return a reason code in words."""
        return self.of("reasons", code)


@cache
def words(language: str) -> Words:
    """Return the texts of `language`. Raises ConfigError for one that is not there."""
    if language not in LANGUAGES:
        raise ConfigError(f"--language: there is no {language!r}; known: {', '.join(LANGUAGES)}")
    return Words(language, _read(f"languages/{language}.toml"))


@cache
def law() -> Mapping[str, Any]:
    """Return the dates of application, with their sources."""
    return _read("law.toml")


def _read(name: str) -> Mapping[str, Any]:
    return tomllib.loads((resources.files("fedge.reports") / name).read_text(encoding="utf-8"))


def octets(count: int) -> str:
    """Return a number of bytes for people: 950 B, 12.3 kB, 4.56 MB."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"


REASONS: Mapping[str, str] = MappingProxyType(dict(words("en").texts["reasons"]))
"""Reason codes of the log in English, for the command line."""
