"""Any Flower strategy as an Aggregation: only its combining step is used.

Flower's `Strategy.start` samples with a global generator, waits for ever and releases before we could log;
so fedge keeps its own loop and asks the strategy one thing: given these replies, what is the next model?
What a strategy remembers (moments, momentum) is taken out after each round and put back before the next, which
makes it resumable. Weights go in as float64: Krum's distances cancel badly in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.exception import AggregationError
from flwr.serverapp.strategy import (
    Bulyan,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    MultiKrum,
)
from numpy.typing import NDArray

from fedge.errors import RoundError
from fedge.flower.grid import ensure_identity
from fedge.learning.aggregation import ROBUST, Aggregation, Combined, Contribution, Memory, Name, Strategy
from fedge.params import Params

WEIGHT = "num-examples"
_MOMENTS = ("m_t", "v_t")
_MOMENTUM = "momentum_vector"

Make = Callable[[Strategy], FedAvg]

MAKERS: Mapping[Name, Make] = MappingProxyType(
    {
        "fedavg": lambda s: FedAvg(),
        "fedprox": lambda s: FedAvg(),  # the proximal term acts at the client: recipe.proximal_mu
        "fedavgm": lambda s: FedAvgM(server_learning_rate=s.server_learning_rate, server_momentum=s.server_momentum),
        "fedadam": lambda s: FedAdam(eta=s.server_learning_rate, beta_1=s.beta_1, beta_2=s.beta_2, tau=s.tau),
        "fedyogi": lambda s: FedYogi(eta=s.server_learning_rate, beta_1=s.beta_1, beta_2=s.beta_2, tau=s.tau),
        "fedadagrad": lambda s: FedAdagrad(eta=s.server_learning_rate, tau=s.tau),
        "median": lambda s: FedMedian(),
        "trimmed_mean": lambda s: FedTrimmedAvg(beta=s.trim),
        "krum": lambda s: Krum(num_malicious_nodes=s.malicious),
        "multi_krum": lambda s: MultiKrum(num_malicious_nodes=s.malicious, num_nodes_to_select=s.select),
        "bulyan": lambda s: Bulyan(num_malicious_nodes=s.malicious),
    }
)


def aggregation(settings: Strategy) -> Aggregation:
    """Return the Aggregation that `settings` name, backed by Flower's strategy of that name."""
    ensure_identity()
    make = MAKERS[settings.name]
    return Aggregation(settings.name, _combine(make, settings), _needs(settings), settings.name in ROBUST)


def _needs(settings: Strategy) -> int:
    """Return the least number of updates the aggregation's own paper asks for."""
    tolerated = settings.malicious
    return {
        "krum": 2 * tolerated + 3,  # Blanchard et al. 2017: 2f + 2 < n
        "multi_krum": max(2 * tolerated + 3, settings.select),
        "bulyan": 4 * tolerated + 3,  # El Mhamdi et al. 2018: n >= 4f + 3
        "median": 3,
        "trimmed_mean": 3,
    }.get(settings.name, 1)


def _combine(make: Make, settings: Strategy) -> Callable[[Params, Memory, Sequence[Contribution], int], Combined]:
    def combine(params: Params, memory: Memory, contributions: Sequence[Contribution], round_: int) -> Combined:
        strategy = make(settings)
        _remember(strategy, params, memory)
        replies = [_reply(params, c, i) for i, c in enumerate(sorted(contributions, key=lambda c: c.client))]
        try:
            arrays, _ = strategy.aggregate_train(round_, replies)
        except AggregationError as error:
            raise RoundError(f"{settings.name} could not combine {len(replies)} updates: {error}") from error
        if arrays is None:
            raise RoundError(f"{settings.name} could not combine {len(replies)} updates")
        stepped = {name: arrays[name].numpy().astype(value.dtype) for name, value in params.items()}
        return Combined(stepped, _recall(strategy, sorted(params)))

    return combine


def _reply(params: Params, contribution: Contribution, node: int) -> Message:
    """Return the client's new model as the reply Flower expects, addressed from node number `node`."""
    model = {name: _wide(params[name]) + _wide(contribution.delta[name]) for name in sorted(params)}
    content = RecordDict({"arrays": _record(model), "metrics": MetricRecord({WEIGHT: float(contribution.weight)})})
    asked = Message(RecordDict(), node, "train")
    return Message(content, reply_to=asked)


def _remember(strategy: FedAvg, params: Params, memory: Memory) -> None:
    """Give `strategy` the state it would have had, had it run the rounds before."""
    wide = {name: _wide(params[name]) for name in sorted(params)}
    if isinstance(strategy, FedAvgM):
        strategy.current_arrays = _record(wide)
        if _MOMENTUM in memory:
            strategy.momentum_vector = [_wide(memory[_MOMENTUM][name]) for name in sorted(params)]
    for moment in _MOMENTS:
        if hasattr(strategy, moment):
            strategy.current_arrays = wide  # type: ignore[attr-defined] # FedOpt keeps numpy arrays, FedAvgM a record
            if moment in memory:
                setattr(strategy, moment, {name: _wide(memory[moment][name]) for name in sorted(params)})


def _recall(strategy: FedAvg, names: Sequence[str]) -> Memory:
    memory: dict[str, Params] = {m: dict(v) for m in _MOMENTS if (v := getattr(strategy, m, None))}
    momentum = getattr(strategy, _MOMENTUM, None)
    if momentum is not None:
        memory[_MOMENTUM] = dict(zip(names, momentum, strict=True))
    return memory


def _record(arrays: Mapping[str, NDArray[np.float64]]) -> ArrayRecord:
    return ArrayRecord({name: Array(np.asarray(value)) for name, value in arrays.items()})


def _wide(array: NDArray[np.floating]) -> NDArray[np.float64]:
    return array.astype(np.float64)
