"""How many records were used: in public a range, in private the exact number, bound to it by a commitment.

Exact counts per round reveal single withdrawals and lie outside the differential-privacy guarantee. So a log entry
holds ranges and `sha256(nonce || canonical exact counts)`; the client keeps counts and nonce, and can open the
commitment to an auditor. A range still tells when a count crosses its border: it blurs, it is not private.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedge.audit.forms import Bucket, Code, Digest
from fedge.encoding import canonical, digest, to_plain
from fedge.errors import ParseError

NONCE_BYTES = 32


@dataclass(frozen=True)
class ExactCounts:
    """Records eligible, records used, and records left out by reason; stays with the client."""

    eligible: int
    used: int
    excluded: Mapping[str, int]


@dataclass(frozen=True)
class Counts:
    """The public copy of ExactCounts: ranges, and the commitment to the exact numbers."""

    eligible: Bucket
    used: Bucket
    excluded: Mapping[Code, Bucket]
    commitment: Digest


def bucket(n: int) -> str:
    """Return the range that `n` lies in, its leading digit kept: `0`, `1-9`, `10-19` ... `90-99`, `100-199` ...

    Raises ParseError if `n` is negative.
    """
    if n < 0:
        raise ParseError(f"{n} is not a count")
    if n < 10:
        return "1-9" if n else "0"
    step = 10 ** (len(str(n)) - 1)
    low = n // step * step
    return f"{low}-{low + step - 1}"


def bounds(text: str) -> tuple[int, int]:
    """Return the smallest and largest count of a `bucket`; any other spelling raises ParseError."""
    low, _, high = text.partition("-")
    if not (low.isdecimal() and low.isascii()) or bucket(int(low)) != text:
        raise ParseError(f"{text!r} is not a range of counts such as 30-39")
    return int(low), int(high or low)


def publish(exact: ExactCounts, nonce: bytes) -> Counts:
    """Return the public copy of `exact`; `nonce` are 32 fresh secret bytes, kept beside the exact counts."""
    excluded = {reason: bucket(n) for reason, n in sorted(exact.excluded.items())}
    return Counts(bucket(exact.eligible), bucket(exact.used), excluded, commitment(exact, nonce))


def commitment(exact: ExactCounts, nonce: bytes) -> str:
    """Return `sha256:<hex>` of `nonce` and the canonical exact counts."""
    if len(nonce) != NONCE_BYTES:
        raise ParseError(f"a nonce has {NONCE_BYTES} bytes, this one {len(nonce)}")
    return digest(nonce + canonical(to_plain(exact)))


def opens(public: Counts, exact: ExactCounts, nonce: bytes) -> bool:
    """Return whether `exact` and `nonce` are what `public` was made from."""
    return publish(exact, nonce) == public
