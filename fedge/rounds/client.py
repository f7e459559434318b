"""The client: it belongs to the owner of the data, and judges every order before it touches a record.

    order → admit (the spend is durable) → learn → settle → answer

What an order sets in motion, and in which order of effects, is in `work`. Here parcels are told apart: hello, work,
seal, and the sessions of secure aggregation.
"""

from __future__ import annotations

import numpy as np

from fedge.errors import RoundError
from fedge.learning.central import shortened
from fedge.learning.loader import Loader
from fedge.learning.scoring import COUNT_GRID, correct
from fedge.learning.training import train
from fedge.params import Params
from fedge.privacy.events import Gaussian
from fedge.rounds.job import COUNT_SENSITIVITY, Job
from fedge.rounds.messages import PUBLIC_SIZE, Enrolment, Hello, Kind, Parcel, WorkOrder, only_statement, read, sign
from fedge.rounds.packing import travelling
from fedge.rounds.secure import party
from fedge.rounds.site import Site
from fedge.rounds.vouch import lay_out_receipts, vouch
from fedge.rounds.work import again, carry_out, check_model, keep_traceback, read_order


def answer(site: Site, kind: Kind, parcel: Parcel) -> Parcel:
    """Return the client's answer to a parcel of the server.

    Raises SignatureError, ParseError or RoundError for what is not an order of this client's server at all: such
    a message deserves no statement, and the carrier turns it into silence. Why is in the client's own faults file.
    """
    try:
        return _answered(site, kind, parcel)
    except Exception:  # whatever it is: the owner finds it in the faults file, and it goes on to the carrier
        keep_traceback(site)
        raise


def _answered(site: Site, kind: Kind, parcel: Parcel) -> Parcel:
    match kind:
        case "hello":
            hello = read(Hello, only_statement(parcel), site.server.key)
            lay_out_receipts(site, hello.run)  # a power cut may have taken some away
            return Parcel((sign(_enrolment(site, hello), site.key),))
        case "seal":
            return vouch(site, parcel)
        case "secure":
            return party.answer(site, parcel)
        case "work":
            return _worked(site, parcel)


def _enrolment(site: Site, hello: Hello) -> Enrolment:
    pin = site.witness.pinned(site.server.log_of(hello.run).name)
    return Enrolment(
        client=site.client,
        key=site.key.public.text,
        witness_key=site.witness.vkey.text,
        organisation=site.organisation,
        pinned=pin.note if pin else None,
    )


def _worked(site: Site, parcel: Parcel) -> Parcel:
    order = read_order(site, parcel)
    check_model(order.model, parcel.tensors)
    if order.terms is not None:  # its noise may be too little for an update that travels alone
        raise RoundError("an order of secure aggregation is answered only in a session")

    def compute(job: Job, loader: Loader) -> Params:
        return _computed(site, order, parcel.tensors, job, loader)

    return again(site, order) or carry_out(site, order, parcel.tensors, compute)


def _computed(site: Site, order: WorkOrder, model: Params, job: Job, loader: Loader) -> Params:
    dice = site.dice(order.work, order.round)
    if job.recipe is not None:
        change = train(site.task, model, loader, job.recipe, dice).delta
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
