"""The client: it belongs to the owner of the data, and judges every order before it touches a record.

    order → take_up (the spend is durable) → learn → settle → answer

What an order sets in motion, and in which order of effects, is in `work`. Here parcels are told apart: hello, work,
seal, and the sessions of secure aggregation. Whoever runs many clients takes each phase for all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from fedge.errors import RoundError
from fedge.learning.central import shortened
from fedge.learning.loader import Loader
from fedge.learning.recipe import Recipe
from fedge.learning.scoring import COUNT_GRID, correct
from fedge.learning.task import Task
from fedge.learning.training import Learned, train
from fedge.params import Params
from fedge.privacy.events import Gaussian
from fedge.privacy.noise import Dice
from fedge.rounds import work
from fedge.rounds.job import COUNT_SENSITIVITY, Job
from fedge.rounds.messages import PUBLIC_SIZE, Enrolment, Hello, Kind, Parcel, only_statement, read, sign
from fedge.rounds.packing import travelling
from fedge.rounds.secure import party
from fedge.rounds.site import Face, Site
from fedge.rounds.statement import Result
from fedge.rounds.vouch import lay_out_receipts, vouch
from fedge.rounds.work import Taken, again, check_model, keep_traceback, learned, read_order

Train = Callable[[Task, Params, Loader, Recipe, Dice], Learned]
"""How one client trains; whoever trains many at once hands in what came of this one."""


def answer(site: Site, kind: Kind, parcel: Parcel) -> Parcel:
    """Return the client's answer to a parcel of the server.

    Raises SignatureError, ParseError or RoundError for what is not an order of this client's server at all: such
    a message deserves no statement, and the carrier turns it into silence. Why is in the client's own faults file.
    """
    with _faults_kept(site):
        return _answered(site, kind, parcel)


@contextmanager
def _faults_kept(site: Site) -> Iterator[None]:
    """Keep any fault where the owner finds it, in the faults file, and let it go on to the carrier."""
    try:
        yield
    except Exception:  # whatever it is: noted for the owner, and raised again as it came
        keep_traceback(site)
        raise


def _answered(site: Site, kind: Kind, parcel: Parcel) -> Parcel:
    match kind:
        case "hello":
            hello = read(Hello, only_statement(parcel), site.server.key)
            lay_out_receipts(site, hello.run)  # a power cut may have taken some away
            return introduce(site, hello)
        case "seal":
            return vouch(site, parcel)
        case "secure":
            return party.answer(site, parcel)
        case "work":
            return _worked(site, parcel)


def introduce(face: Face, hello: Hello) -> Parcel:
    """Return the signed enrolment of the client whose face this is."""
    pin = face.witness.pinned(face.server.log_of(hello.run).name)
    enrolment = Enrolment(
        client=face.client,
        key=face.key.public.text,
        witness_key=face.witness.vkey.text,
        organisation=face.organisation,
        pinned=pin.note if pin else None,
    )
    return Parcel((sign(enrolment, face.key),))


def _worked(site: Site, parcel: Parcel) -> Parcel:
    taken = _taken_up(site, parcel)
    return taken if isinstance(taken, Parcel) else work.settle(taken, learn(taken))


def take_up(site: Site, parcel: Parcel) -> Taken | Parcel:
    """Judge the order in `parcel` and reserve its spend; return the answer at once if there is nothing to learn.

    Raises what `answer` raises.
    """
    with _faults_kept(site):
        return _taken_up(site, parcel)


def settle(taken: Taken, result: Result) -> Parcel:
    """Return the answer to an order of which `result` was learned: the last phase, see `work.settle`."""
    with _faults_kept(taken.site):
        return work.settle(taken, result)


def _taken_up(site: Site, parcel: Parcel) -> Taken | Parcel:
    order = read_order(site, parcel)
    check_model(order.model, parcel.tensors)
    if order.terms is not None:  # its noise may be too little for an update that travels alone
        raise RoundError("an order of secure aggregation is answered only in a session")
    return again(site, order) or work.take_up(site, order, parcel.tensors)


def learn(taken: Taken, training: Train | None = None, dice: Dice | None = None) -> Result:
    """Learn what was admitted, by `training` with `dice`; None: by itself, with its own for this order."""
    rolled = dice or taken.site.dice(taken.order.work, taken.order.round)
    return learned(taken, lambda job, loader: _computed(taken, job, loader, training or train, rolled))


def _computed(taken: Taken, job: Job, loader: Loader, training: Train, dice: Dice) -> Params:
    site, order, model = taken.site, taken.order, taken.model
    if job.recipe is not None:
        change = training(site.task, model, loader, job.recipe, dice).delta
        if job.recipe.client is not None:  # the server's noise is made for this length, and no client's may exceed it
            change = shortened(change, job.recipe.client.clip_norm)
        delta = dict(travelling(change, job.recipe, order, dice))
        if site.policy.public_size:
            delta[PUBLIC_SIZE] = np.asarray([len(loader.eligible)], dtype=np.float64)
        return delta
    by_owner = isinstance(job.event, Gaussian) and job.event.unit == "subject"
    hits, total = correct(site.task, model, loader, by_owner=by_owner)
    noise = dice.discrete_gaussian((2,), job.noise_multiplier * COUNT_SENSITIVITY, COUNT_GRID if by_owner else 1.0)
    return {"correct": np.asarray([hits + noise[0]]), "total": np.asarray([total + noise[1]])}
