"""A Parcel as a Flower RecordDict, and back: strictly, because what comes back is hostile until checked.

Tensors travel as an ArrayRecord (so that Flower's own mods can work on them), statements as bytes in a
ConfigRecord. No MetricRecord is ever sent: Flower metrics are unsigned and un-noised.
"""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedge.errors import RoundError
from fedge.rounds.messages import Parcel

ARRAYS, STATEMENTS = "arrays", "statements"


def to_record(parcel: Parcel) -> RecordDict:
    """Return `parcel` as Flower records."""
    arrays = ArrayRecord({name: Array(np.asarray(parcel.tensors[name])) for name in sorted(parcel.tensors)})
    return RecordDict({ARRAYS: arrays, STATEMENTS: ConfigRecord({STATEMENTS: list(parcel.statements)})})


def from_record(record: RecordDict) -> Parcel:
    """Return the parcel in `record`; anything beside the two expected records raises RoundError."""
    if set(record.keys()) != {ARRAYS, STATEMENTS}:
        raise RoundError(f"message holds {sorted(record.keys())}, expected {ARRAYS} and {STATEMENTS}")
    arrays, config = record[ARRAYS], record[STATEMENTS]
    if not isinstance(arrays, ArrayRecord) or not isinstance(config, ConfigRecord) or set(config) != {STATEMENTS}:
        raise RoundError("message does not hold one ArrayRecord of tensors and one ConfigRecord of statements")
    statements = config[STATEMENTS]
    if not isinstance(statements, list) or not all(isinstance(s, bytes) for s in statements):
        raise RoundError("statements are not a list of bytes")
    try:
        tensors = {name: array.numpy() for name, array in arrays.items()}
    except (ValueError, TypeError, EOFError, OSError) as error:
        raise RoundError(f"a tensor of the message cannot be read: {error}") from error
    return Parcel(tuple(s for s in statements if isinstance(s, bytes)), tensors)
