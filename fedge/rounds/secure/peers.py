"""Whom a client is in a session with: their keys, vouched for by the log that this client itself has pinned.

A server that relays keys could put its own in their place and read everything. So each peer's session keys are signed
by its enrolled key, and the enrolled key is believed only if its entry leads to the root of the very checkpoint that
this client has cosigned, which every other client has cosigned too. (A server can still enrol clients of its own
making, but only in the open: they are in the log for ever, and `colluding` says how many of them do no harm.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedge.audit.leaves import ClientEnrol, KeyRotate, decode
from fedge.audit.merkle import leaf_hash, verify_inclusion
from fedge.encoding import b64decode, b64encode, digest, parse
from fedge.errors import ParseError, RoundError
from fedge.rounds.messages import WorkOrder, read
from fedge.rounds.secure.messages import Advertisement, Introduction, LogEntry
from fedge.rounds.site import Site
from fedge.secagg.keys import Secrets, public_half
from fedge.secagg.unmasking import PublicKeys
from fedge.signing import PublicKey, parse_envelope, public_key, unseal


@dataclass(frozen=True)
class Peer:
    """One client of a session, as the others see it."""

    signing_key: PublicKey
    keys: PublicKeys


def advertise(site: Site, order: WorkOrder, session: str, secrets: Secrets) -> Advertisement:
    """Return what this client shows of its secrets. Raises RoundError if it has never vouched for the run's log."""
    pin = site.witness.pinned(site.server.log_of(order.run).name)
    if pin is None:
        raise RoundError("no checkpoint of this run's log was pinned yet, so no peer's key can be checked")
    return advertisement(site.client, session, secrets, pin.checkpoint.size)


def advertisement(client: str, session: str, secrets: Secrets, pinned: int) -> Advertisement:
    """Return the public face of `secrets`."""
    return Advertisement(
        session=session,
        client=client,
        signing_key=secrets.signing_key.public.text,
        mask_key=b64encode(public_half(secrets.mask_key)),
        share_key=b64encode(public_half(secrets.share_key)),
        self_mask=digest(secrets.self_mask),
        pinned=pinned,
    )


def peer_of(advertised: Advertisement) -> Peer:
    """Return the keys in an advertisement. Raises ParseError."""
    mask_key, share_key = b64decode(advertised.mask_key), b64decode(advertised.share_key)
    if len(mask_key) != 32 or len(share_key) != 32:
        raise ParseError("an X25519 public key has 32 bytes")
    return Peer(public_key(advertised.signing_key), PublicKeys(mask_key, share_key, advertised.self_mask))


def introduced(site: Site, request: Introduction) -> dict[str, Peer]:
    """Return everyone in the session by name, this client too, sorted.

    Raises RoundError, ParseError, SignatureError or ProofError for keys that are not vouched for.
    """
    enrolled = _enrolled(site, request)
    peers: dict[str, Peer] = {}
    for text in request.advertisements:
        statement = b64decode(text)
        name = parse(parse_envelope(statement).payload).get("client")
        if name not in enrolled:
            raise RoundError(f"the server introduces {name!r}, whose enrolment it does not prove")
        advertised = read(Advertisement, statement, enrolled[name])
        if advertised.session != request.session or name in peers:
            raise RoundError(f"the keys of {name} are of another session, or were sent twice")
        peers[name] = peer_of(advertised)
    return dict(sorted(peers.items()))


def _enrolled(site: Site, request: Introduction) -> Mapping[str, PublicKey]:
    """Return the key that speaks for each client, from entries of the log that this client has pinned."""
    pin = site.witness.pinned(site.server.log_of(request.run).name)
    if pin is None or pin.checkpoint.size != request.size:
        raise RoundError(f"the enrolments are proved at size {request.size}, which is not what this client has pinned")
    keys: dict[str, PublicKey] = {}
    for named in sorted(request.enrolments, key=lambda e: e.index):
        _name_key(site, request.run, named, pin.checkpoint.root, request.size, keys)
    return keys


def _name_key(site: Site, run: str, named: LogEntry, root: bytes, size: int, keys: dict[str, PublicKey]) -> None:
    entry = b64decode(named.entry)
    verify_inclusion(named.index, size, leaf_hash(entry), [b64decode(h) for h in named.hashes], root)
    leaf, envelope = decode(entry)
    if isinstance(leaf, ClientEnrol) and leaf.run == run and leaf.client not in keys:
        unseal(envelope, envelope.payload_type, site.server.key)
        keys[leaf.client] = public_key(leaf.key)
    elif isinstance(leaf, KeyRotate) and leaf.run == run and leaf.client in keys:
        unseal(envelope, envelope.payload_type, keys[leaf.client])
        keys[leaf.client] = public_key(leaf.new_key)
    else:
        raise RoundError(f"entry {named.index} of the log names no key of a client of this run")
