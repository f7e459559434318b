"""The owner's policy: closed where it is empty, stricter by every rule, and named by one digest."""

from dataclasses import fields, replace

import pytest

from fedge.errors import ConfigError
from fedge.policy import YES, ClientPolicy, Facts, Verdict, all_of, policy_digest, rule_of

FACTS = Facts("cancer", "health-research", 5, 100, 1.0, 1.0, 0.5, 2.0, True)
NO = Verdict(False, "no", "no")


def test_a_policy_without_a_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="would allow everything"):
        all_of([])


def test_all_must_allow_and_the_first_refusal_stands() -> None:
    assert all_of([lambda _: YES])(FACTS) == YES
    assert all_of([lambda _: YES, lambda _: NO, lambda _: replace(NO, code="later")])(FACTS) == NO


def test_the_defaults_demand_privacy_and_a_cohort() -> None:
    rule = rule_of(ClientPolicy())
    assert rule(FACTS).allowed
    assert rule(replace(FACTS, noise_multiplier=0.0)).code == "no_privacy"
    assert rule(replace(FACTS, cohort=1)).code == "cohort_too_small"


STRICTER = {
    "require_secure_noise": (ClientPolicy(require_secure_noise=True), replace(FACTS, secure_noise=False)),
    "tasks": (ClientPolicy(tasks=("digits",)), FACTS),
    "purposes": (ClientPolicy(purposes=("public-health",)), FACTS),
    "minimum_cohort": (ClientPolicy(minimum_cohort=6), FACTS),
    "minimum_noise_multiplier": (ClientPolicy(minimum_noise_multiplier=1.1), FACTS),
    "maximum_clip_norm": (ClientPolicy(maximum_clip_norm=0.9), FACTS),
    "maximum_epsilon_per_round": (ClientPolicy(maximum_epsilon_per_round=0.4), FACTS),
}


@pytest.mark.parametrize("name", STRICTER)
def test_each_rule_refuses_with_a_code_and_a_sentence(name: str) -> None:
    policy, facts = STRICTER[name]
    assert rule_of(ClientPolicy())(facts).allowed
    said = rule_of(policy)(facts)
    assert not said.allowed
    assert said.code
    assert said.code.replace("_", " ") in said.text


@pytest.mark.parametrize("name", STRICTER)
def test_every_change_is_another_digest(name: str) -> None:
    assert policy_digest(STRICTER[name][0]) != policy_digest(ClientPolicy()) == policy_digest(ClientPolicy())


def test_without_noise_only_the_demand_for_privacy_decides() -> None:
    policy = ClientPolicy(require_privacy=False, maximum_clip_norm=0.1, minimum_noise_multiplier=9.0)
    assert rule_of(policy)(replace(FACTS, noise_multiplier=0.0, clip_norm=float("inf"))).allowed


def test_unlimited_numbers_have_a_digest() -> None:
    assert policy_digest(ClientPolicy(maximum_clip_norm=float("inf"))).startswith("sha256:")
    assert {f.name for f in fields(ClientPolicy)} > STRICTER.keys()
