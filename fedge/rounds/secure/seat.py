"""A client's seat in a session: what it holds, whom it faces, and the words it has for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fedge.encoding import b64decode, canonical, digest, to_plain
from fedge.errors import RoundError
from fedge.params import Params
from fedge.rounds.messages import Parcel, WorkOrder, read, sign
from fedge.rounds.secure.messages import Introduction
from fedge.rounds.secure.peers import Peer, introduced
from fedge.rounds.secure.sessions import Session
from fedge.rounds.site import Site
from fedge.secagg.graph import chosen
from fedge.secagg.keys import Secrets
from fedge.secagg.masking import pair_key, pair_secret
from fedge.secagg.ring import Ring, Word
from fedge.secagg.terms import Terms

MASKED = "masked"
"""Name of the tensor that a masked vector travels as: uint8, `bits / 8` bytes a coordinate."""


def session_of(order: WorkOrder) -> str:
    """Return the name of the session that `order` opens: the digest of all that is the same for every client."""
    own = ("client", "issued", "expires")
    return digest(canonical({k: v for k, v in to_plain(order).items() if k not in own}))


@dataclass(frozen=True)
class Seat:
    """Client `site` in `session`, which `order` has opened under `terms`."""

    site: Site
    session: Session
    order: WorkOrder
    terms: Terms

    @property
    def ring(self) -> Ring:
        """The ring of the session."""
        return self.terms.ring()

    @property
    def secrets(self) -> Secrets:
        """This client's secrets. Raises RoundError once they are erased."""
        if self.session.over:
            raise RoundError("this session is over")
        return Secrets(self.session.session, b64decode(self.session.secret))

    def peers(self) -> Mapping[str, Peer]:
        """Return everyone in the session, from the introduction that was verified when it came."""
        return introduced_once(self.site, self.session.request("introduction"))

    def circle(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return who of `names`, all in the session, holds shares of this client's secrets, itself too, sorted."""
        me = self.site.client
        around = self.terms.circle(len(names))
        if around is None:
            return names
        secrets = self.secrets
        return tuple(sorted((me, *chosen(secrets.secret, secrets.session, me, names, around.size))))

    def pair_keys(self, participants: tuple[str, ...], step: int, attempt: int) -> dict[str, bytes]:
        """Return the key of the mask with each other participant."""
        peers, me, secrets = self.peers(), self.site.client, self.secrets
        found = {}
        for name in participants:
            if name != me:
                secret = pair_secret(secrets.mask_key, peers[name].keys.mask_key, self.session.session, me, name)
                found[name] = pair_key(secret, step, attempt)
        return found

    def check_participants(self, names: tuple[str, ...], among: tuple[str, ...]) -> None:
        """Raise RoundError unless `names` are some of `among`, with this client, and as many as the terms demand."""
        if list(names) != sorted(set(names)) or not set(names) <= set(among) or self.site.client not in names:
            raise RoundError("the participants are not clients of this session, or this client is not one of them")
        least = self.terms.least(len(self.peers()))
        if len(names) < least:
            raise RoundError(f"{len(names)} clients would be in the sum, at least {least} have to be")

    def once(self, stage: str, request: bytes, say: Callable[[], object], *, last: bool = False) -> Parcel:
        """Answer `request` with the message that `say` makes, durably; the same request gets the same bytes.

        Raises RoundError if another request was answered in this place.
        """
        known = self.session.answered(stage, request)
        if known is not None:
            return Parcel(known)
        statement = sign(say(), self.secrets.signing_key)
        session = self.session.saying(stage, request, (statement,))
        self.site.sessions.keep(session.ended(stage) if last else session)
        self.site.reached(stage)
        return Parcel((statement,))


def on_wire(ring: Ring, words: Word) -> Params:
    """Return a masked vector as the tensor that leaves: octets of integers, where other tensors are floats."""
    return cast(Params, {MASKED: ring.to_bytes(words)})


def octets_of(tensors: Params) -> NDArray[np.uint8]:
    """Return the octets of a masked vector that has come. Raises RoundError if there is none."""
    if set(tensors) != {MASKED}:
        raise RoundError("there is no masked vector")
    return cast(NDArray[np.uint8], tensors[MASKED])


def introduced_once(site: Site, statement: bytes) -> Mapping[str, Peer]:
    """Return who is introduced in `statement`, verified once in the life of this process."""
    return site.sessions.known(statement, lambda: introduced(site, read(Introduction, statement, site.server.key)))
