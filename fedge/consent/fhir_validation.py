"""FHIR Consents held to their schema by `fhir.resources` (the extra `fhir`); the reader itself needs no library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedge.errors import ConfigError


def validator() -> Callable[[Mapping[str, Any]], None]:
    """Return a check that raises ValueError for a Consent that is neither valid R4B nor valid R5.

    R4 is held to R4B, which left Consent as it was. Raises ConfigError if the extra is not installed.
    """
    try:
        from fhir.resources.consent import Consent as R5
        from fhir.resources.R4B.consent import Consent as R4B
    except ImportError as error:
        raise ConfigError("holding Consents to their schema needs the extra: pip install 'fedge[fhir]'") from error

    def check(resource: Mapping[str, Any]) -> None:
        kind = R5 if resource.keys() & {"subject", "decision", "date"} else R4B
        kind.model_validate(dict(resource))

    return check
