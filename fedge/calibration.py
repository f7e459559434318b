"""What a run asks of its clients, with the noise that its promise takes: set once, for all rounds that are planned.

A configuration says what is promised (epsilon at delta, for which unit); a recipe says what is done (noise, rates,
clip norms). Between them stands the accountant, and nothing else in the house sets noise.
"""

from __future__ import annotations

from typing import Any, Literal

from fedge.audit.leaves import PrivacyStatement
from fedge.config import RunConfig
from fedge.encoding import decimal
from fedge.errors import UnsoundError
from fedge.learning.central import Central
from fedge.learning.recipe import Adaptive, ClientLevel, Poisson, Recipe, RecordLevel, Shuffled
from fedge.privacy import factorisation, noise
from fedge.privacy.accountant import STATEMENT, noise_multiplier
from fedge.rounds.sampling import cohort_size
from fedge.secagg.terms import Terms, noisy_terms, update_terms

COUNT_NOISE = 2.5
"""Noise of the adaptive clip norm's count, in units of the noise multiplier: it costs the sum 2 % more noise."""


def recipe_of(config: RunConfig) -> Recipe:
    """Return what a client does in one round; noise is set so that all planned rounds together cost the epsilon."""
    training, privacy = config.training, config.privacy
    common: dict[str, Any] = {
        "steps": training.steps,
        "learning_rate": training.learning_rate,
        "momentum": training.momentum,
        "weight_decay": training.weight_decay,
        "proximal_mu": config.strategy.proximal_mu,
        "clipping": training.clipping,
        "compression": None if config.compression.nothing else config.compression,
    }
    if privacy.unit == "none":
        return Recipe(batching=Shuffled(training.batch_size), **common)
    if privacy.unit == "client":
        return Recipe(batching=Shuffled(training.batch_size), client=_client_level(config), **common)
    total = training.steps * max(1, config.rounds)
    sigma = noise_multiplier(privacy.epsilon, privacy.delta, training.sample_rate, total)
    batching = Poisson(training.sample_rate, training.normaliser)
    unit: Literal["record", "subject"] = "subject" if privacy.unit == "subject" else "record"
    clipped = RecordLevel(sigma, privacy.clip_norm, unit, _adaptive(config, sigma))
    return Recipe(batching=batching, privacy=clipped, **common)


def _client_level(config: RunConfig) -> ClientLevel:
    """Return how whole clients are protected; noise is set so that all rounds a client can be in cost the epsilon."""
    privacy, fraction, secure = config.privacy, config.sampling.fraction, config.privacy.noise == "secure"
    if privacy.noise_at == "distributed":  # the server knows who is in the sum, so nothing is sampled
        sigma = noise_multiplier(privacy.epsilon, privacy.delta, 1.0, max(1, config.rounds))
        return ClientLevel(sigma, privacy.clip_norm, secure=secure)
    if privacy.mechanism == "banded":
        bands = factorisation.square_root(bands_of(config))
        most = factorisation.participations(max(1, config.rounds), len(bands))
        sigma = noise_multiplier(privacy.epsilon, privacy.delta, 1.0, most)
        return ClientLevel(sigma, privacy.clip_norm, 1.0, bands, secure)
    sigma = noise_multiplier(privacy.epsilon, privacy.delta, fraction, max(1, config.rounds))
    return ClientLevel(sigma, privacy.clip_norm, fraction, (1.0,), secure, _adaptive(config, sigma))


def bands_of(config: RunConfig) -> int:
    """Return over how many rounds noise is correlated: as configured, or as many as pass before all have been asked."""
    if config.privacy.bands is not None:
        return config.privacy.bands
    return max(1, int(1 / config.sampling.fraction + 1e-9))


def central_of(config: RunConfig, clients: int, recipe: Recipe) -> Central | None:
    """Return the server's mechanism among up to `clients`, or None where it adds no noise.

    How many clients there are is public: they enrol in the log. `expected` never follows who really answers.
    """
    if recipe.client is None or config.privacy.noise_at == "distributed":
        return None
    expected = config.privacy.expected
    if expected is None:
        share = config.sampling.fraction * clients
        minimum = config.sampling.minimum_clients
        expected = share if recipe.client.separation == 1 else cohort_size(clients, config.sampling.fraction, minimum)
    if config.privacy.noise == "secure":
        return Central(recipe.client, expected, lambda _round: noise.secure())
    return Central(recipe.client, expected, lambda round_: noise.seeded(config.seed, "server", round_))


def _adaptive(config: RunConfig, noise_multiplier: float) -> Adaptive | None:
    """Return how the clip norm follows the data, if it does; see `config.Privacy`."""
    privacy = config.privacy
    if not privacy.adaptive_clipping:
        return None
    count_noise = COUNT_NOISE * noise_multiplier if privacy.count_noise is None else privacy.count_noise
    if count_noise <= noise_multiplier / 2:
        raise UnsoundError(
            f"privacy.count_noise={count_noise:g} is at most half the noise multiplier {noise_multiplier:g}: counting "
            "alone would cost more than the whole epsilon; leave it null, or raise it"
        )
    largest = 10 * privacy.clip_norm if privacy.largest_clip_norm is None else privacy.largest_clip_norm
    return Adaptive(privacy.clip_quantile, privacy.clip_learning_rate, count_noise, largest)


def evaluation_noise(config: RunConfig) -> float | None:
    """Return the noise multiplier of the clients' own evaluation, None if they are not asked."""
    if config.evaluation.federated == "none" or config.continues is not None:
        return None  # rounds that are redone ask no second time: it would be a new spend
    return noise_multiplier(config.evaluation.epsilon, config.privacy.delta, 1.0, 1)


def terms_of(config: RunConfig, clients: int, recipe: Recipe) -> Terms | None:
    """Return the terms of secure aggregation among up to `clients`, or None without it."""
    privacy = config.privacy
    if not privacy.secure_aggregation:
        return None
    promised = recipe.privacy or recipe.client
    if privacy.noise_at == "client" or promised is None:
        return update_terms(clients, privacy.update_norm, privacy.colluding, privacy.dropouts)
    std, steps = promised.noise_multiplier * privacy.clip_norm, 0 if promised is recipe.client else recipe.steps
    return noisy_terms(clients, std, privacy.clip_norm, privacy.colluding, privacy.dropouts, steps)


def statement_of(config: RunConfig) -> PrivacyStatement:
    """Return what the first entry of the log promises."""
    if config.privacy.unit == "none":
        return PrivacyStatement("none", "none", "none", "none", None, "none", "none")
    source = "os-aes-ctr" if config.privacy.noise == "secure" else "seeded-aes-ctr"
    adjacency = STATEMENT.adjacency.replace("/", "-")
    shared_whole = config.privacy.unit == "client" and config.privacy.noise_at == "distributed"
    unsampled = config.privacy.mechanism == "banded" or shared_whole
    delta, sampling = decimal(config.privacy.delta), "none" if unsampled else "poisson"
    return PrivacyStatement(
        config.privacy.unit, adjacency, "dp-accounting-pld", sampling, delta, source, config.privacy.noise_at
    )
