"""The owner's policy: what a client will do at all, whoever asks.

A rule is a function of facts; rules are combined by `all_of`, which refuses to be empty. An order can only be stricter
than the policy, never looser.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from fedge.encoding import canonical, decimal, digest, to_plain
from fedge.errors import ConfigError


@dataclass(frozen=True)
class Facts:
    """What an order would mean for this client; epsilons are at the client's own delta, infinity if not private."""

    task: str
    purpose: str
    cohort: int
    records: int
    noise_multiplier: float
    clip_norm: float
    epsilon_round: float
    epsilon_after: float
    secure_noise: bool
    server_noise: bool = False


@dataclass(frozen=True)
class Verdict:
    """Yes, or no with a reason code for the log and a sentence for the operator."""

    allowed: bool
    code: str = ""
    text: str = ""


YES = Verdict(True)
Rule = Callable[[Facts], Verdict]


@dataclass(frozen=True)
class ClientPolicy:
    """What the owner of the data has decided. The defaults are the safe ones.

    `tasks` and `purposes` empty allow whatever the server's manifest names; `withdrawn_in_flight` says what becomes of
    an update if a person in it withdraws before it is sent; `require_privacy` refuses any un-noised update.
    `trust_server_noise` lets an update leave without noise, on the server's word that it adds noise to the sum.
    Under secure aggregation so many as `minimum_colluding` clients must be able to collude with the server in vain.
    """

    require_privacy: bool = True
    require_secure_noise: bool = False
    trust_server_noise: bool = False
    tasks: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    minimum_records: int = 10
    minimum_cohort: int = 2
    minimum_noise_multiplier: float = 0.3
    maximum_clip_norm: float = 100.0
    maximum_epsilon_per_round: float = 8.0
    public_size: bool = False
    minimum_colluding: int = 0
    withdrawn_in_flight: Literal["discard", "finish"] = "discard"

    def __post_init__(self) -> None:
        if self.minimum_records < 1 or self.minimum_cohort < 1:
            raise ValueError("minimum_records and minimum_cohort are at least 1")


def all_of(rules: Sequence[Rule]) -> Rule:
    """Return the rule that allows what every rule allows; the first refusal stands. Raises ConfigError if empty."""
    if not rules:
        raise ConfigError("a policy without a rule would allow everything; name at least one")

    def rule(facts: Facts) -> Verdict:
        return next((v for v in (r(facts) for r in rules) if not v.allowed), YES)

    return rule


def rule_of(policy: ClientPolicy) -> Rule:
    """Return the rule that `policy` stands for."""
    return all_of(
        [
            _named("task_not_approved", lambda f: not policy.tasks or f.task in policy.tasks),
            _named("purpose_not_allowed", lambda f: not policy.purposes or f.purpose in policy.purposes),
            _named("cohort_too_small", lambda f: f.cohort >= policy.minimum_cohort),
            _named("no_privacy", lambda f: not policy.require_privacy or f.noise_multiplier > 0),
            _named("server_noise_not_trusted", lambda f: policy.trust_server_noise or not f.server_noise),
            _named("insecure_noise", lambda f: not policy.require_secure_noise or f.secure_noise),
            _private("noise_too_small", lambda f: f.noise_multiplier >= policy.minimum_noise_multiplier),
            _private("clip_norm_too_large", lambda f: f.clip_norm <= policy.maximum_clip_norm),
            _private("epsilon_per_round_too_large", lambda f: f.epsilon_round <= policy.maximum_epsilon_per_round),
        ]
    )


def policy_digest(policy: ClientPolicy) -> str:
    """Return the digest of `policy`, as the log states it."""
    plain = {k: decimal(v) if isinstance(v, float) else v for k, v in to_plain(policy).items()}
    return digest(canonical(plain))


def _named(code: str, holds: Callable[[Facts], bool]) -> Rule:
    refusal = Verdict(False, code, f"the owner's policy says no: {code.replace('_', ' ')}")
    return lambda facts: YES if holds(facts) else refusal


def _private(code: str, holds: Callable[[Facts], bool]) -> Rule:
    """Return a rule about noise, which says nothing of jobs without any (`no_privacy` decides on those)."""
    return _named(code, lambda facts: facts.noise_multiplier == 0 or holds(facts))
