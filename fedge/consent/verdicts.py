"""The answer of the permission engine: a reason code per record, and the legal bases of those that are admitted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Reason(IntEnum):
    """Why a record is admitted or not; names stand in logs and reports, numbers are never given away twice.

    Where several hold at once, the one with the largest number is stated.
    """

    admitted = 0
    no_consent = 1
    refused = 2
    withdrawn = 3
    expired = 4
    not_yet_valid = 5
    purpose_mismatch = 6
    opt_out = 7
    erased = 8
    scope_mismatch = 9
    condition_unmet = 10
    revoked = 11
    unreadable = 12

    @property
    def text(self) -> str:
        """A sentence for a person."""
        return SENTENCES[self]


SENTENCES = {
    Reason.admitted: "a permission for this purpose holds",
    Reason.no_consent: "nobody was asked, and no permit or legal basis covers the data set",
    Reason.refused: "the person has refused",
    Reason.withdrawn: "the permission has been withdrawn",
    Reason.expired: "the permission has ended",
    Reason.not_yet_valid: "the permission has not begun",
    Reason.purpose_mismatch: "there is a permission, but for another purpose",
    Reason.opt_out: "the person has opted out of this use",
    Reason.erased: "the person has been erased here",
    Reason.scope_mismatch: "there is a permission for this purpose, but not for all of these data",
    Reason.condition_unmet: "the permission is bound to a condition that is not met",
    Reason.revoked: "the permission has been revoked by who gave it",
    Reason.unreadable: "the latest permission record of the person could not be understood",
}


@dataclass(frozen=True)
class Verdicts:
    """One Reason code per record, in the order asked; `legal_bases` are those the admitted records rest on, sorted."""

    codes: NDArray[np.int8]
    legal_bases: tuple[str, ...] = ()

    @property
    def admitted(self) -> NDArray[np.bool_]:
        """Which records may be read."""
        return np.equal(self.codes, int(Reason.admitted))

    def counts(self) -> dict[str, int]:
        """Return how many records each reason excludes; reasons of nobody are left out."""
        found, numbers = np.unique(self.codes[self.codes != Reason.admitted], return_counts=True)
        return {Reason(int(code)).name: int(number) for code, number in zip(found, numbers, strict=True)}
