"""The rules, as values: what is claimed falsely, why that is false, and what to do instead.

A rule says nothing about how it is found; `script`, `flower` and `run` find, and name the rule. The list in the
documentation is printed from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]
"""error: the claimed epsilon is not earned. warning: it is weaker than it looks, or something else may go wrong."""


@dataclass(frozen=True)
class Rule:
    """One false claim; `source` is where the reason can be read, or was measured."""

    id: str
    severity: Severity
    title: str
    why: str
    fix: str
    source: str


@dataclass(frozen=True)
class Finding:
    """A rule that something breaks: at `place` (file:line, or a key of the configuration), with what was seen there."""

    rule: Rule
    place: str
    seen: str


FRESH_ENGINE = Rule(
    "fresh-engine",
    "error",
    "a new PrivacyEngine each time, and its epsilon taken for the total",
    "A new engine has an empty accountant: what it prints is the cost of one round or run, not of all of them.",
    "Keep one accountant for the data set over all rounds and runs, as fedge's ledger does, and print its total.",
    "Opacus: PrivacyEngine.accountant",
)
BUDGET_IGNORED = Rule(
    "budget-ignored",
    "error",
    "make_private_with_epsilon more than once on the same data",
    "It sets noise for the whole target epsilon each time and does not know what was spent before.",
    "Set the noise once for all steps that will ever be taken, or ask a ledger before each run.",
    "Opacus: PrivacyEngine.make_private_with_epsilon",
)
NOT_POISSON = Rule(
    "not-poisson",
    "error",
    "shuffled batches accounted as Poisson samples",
    "The accountant assumes that each record is in each batch by its own coin; shuffled batches of fixed size can cost "
    "many times as much.",
    "Leave poisson_sampling=True, and step the accountant only for batches that were drawn so.",
    "Lebeda et al. 2024, https://arxiv.org/abs/2405.20769",
)
SENSITIVITY = Rule(
    "sensitivity-below-clip",
    "error",
    "noise for a sensitivity below the clipping norm",
    "An update may be as long as the clipping norm, so the noise is too small by their ratio.",
    "Set the sensitivity to the clipping norm (twice that if one update is replaced by another).",
    "Dwork and Roth 2014, Theorem A.1",
)
CLASSICAL = Rule(
    "classical-gaussian",
    "error",
    "the classical Gaussian formula above epsilon 1",
    "sqrt(2 ln(1.25/delta)) / epsilon is proved for epsilon below 1 only; above it the noise may be too small.",
    "Use the analytic Gaussian mechanism, or an accountant.",
    "Balle and Wang 2018, https://arxiv.org/abs/1805.06530",
)
FEWER_STEPS = Rule(
    "noise-for-fewer-steps",
    "error",
    "noise set for fewer epochs than are run",
    "Every further step is one that the noise was not made for: a claimed epsilon 1 then costs 1.5 to 4.4.",
    "Give the number of epochs that will really be run, over all rounds.",
    "Abadi et al. 2016, https://arxiv.org/abs/1607.00133",
)
MIXES_RECORDS = Rule(
    "mixes-records",
    "error",
    "a layer that mixes records, or keeps statistics of them without noise",
    "BatchNorm makes each record's gradient depend on all others, so clipping bounds nothing; running statistics leave "
    "with the model, un-noised. InstanceNorm with running statistics passes Opacus' validator.",
    "Use GroupNorm or LayerNorm (ModuleValidator.fix does so for BatchNorm).",
    "Opacus: opacus.validators",
)
WEIGHTED_LOSS = Rule(
    "weighted-mean-loss",
    "error",
    "a class-weighted mean loss",
    "The mean divides by the sum of the weights in the batch, so one record changes the gradients of all others.",
    "Use reduction='none', multiply by the weights, and divide by a fixed number.",
    "PyTorch: CrossEntropyLoss, reduction='mean' with weight",
)
EXAMPLE_WEIGHTS = Rule(
    "example-weights",
    "error",
    "noise for a plain mean, updates weighted by example counts",
    "Flower's wrappers scale noise by the clipping norm over the number of clients; FedAvg inside weighs by "
    "num-examples, so one client may move the result by more than that.",
    "Weigh uniformly, and give the wrapper an accountant: it then refuses other weights.",
    "McMahan et al. 2018, https://arxiv.org/abs/1710.06963",
)
INSECURE_NOISE = Rule(
    "insecure-noise",
    "warning",
    "noise from a generator that can be guessed or repeated",
    "A seeded or ordinary generator is no secret: whoever repeats it subtracts the noise.",
    "In production draw noise from the operating system: privacy.noise=secure here, secure_mode=True in Opacus.",
    "Mironov 2012, https://doi.org/10.1145/2382196.2382264",
)
GDP = Rule(
    "gdp",
    "error",
    "the Gaussian-DP accountant",
    "It is an approximation that understates: by up to 39 % for ordinary settings.",
    "Use accountant='prv' (or 'rdp', which overstates), or a privacy loss distribution.",
    "Gopi et al. 2021, https://arxiv.org/abs/2106.02848",
)
SEED_IN_ROUND = Rule(
    "seed-in-round",
    "error",
    "the generator of the noise is seeded anew in every round",
    "Noise and batches are then the same each time, and the difference of two rounds is free of noise.",
    "Never seed where noise is drawn; seed initial weights before the first round, with a generator of their own.",
    "PyTorch: torch.manual_seed",
)
EMPTY_BATCH = Rule(
    "empty-batch",
    "warning",
    "batches that are dropped, or crash, when they are small or empty",
    "A Poisson sample may be empty. Dropping it tells how many records there are; grad_sample_mode='ew' and adaptive "
    "clipping crash on it, and drop_last crashes with fewer records than the batch size.",
    "Take an empty batch as a step of noise only: no drop_last, and grad_sample_mode 'hooks' or 'ghost'.",
    "Opacus 1.6: DPDataLoader, empty batches",
)
METRICS_LEAVE = Rule(
    "metrics-leave",
    "error",
    "numbers computed from records leave without noise",
    "The epsilon covers the update alone. A loss, an accuracy or an exact count beside it is one more answer, bare.",
    "Send no number that records decide, or add noise to it and account for that too.",
    "Dwork and Roth 2014, section 3.5 (composition)",
)
RATES_MULTIPLIED = Rule(
    "rates-multiplied",
    "error",
    "client rate times record rate as the sampling rate",
    "A record whose client takes part is sampled at the record's rate: 3.17 was claimed where 11.28 was spent. The "
    "client's coin hides nothing from those who see which clients answered.",
    "Account each round in which a client took part at the record's rate alone.",
    "Balle, Barthe, Gaboardi 2018, https://arxiv.org/abs/1807.01647 (amplification needs a secret sample)",
)
ADAPTIVE_CLIPPING = Rule(
    "adaptive-clipping",
    "warning",
    "a clipping norm that follows the data, in an account for a fixed one",
    "The quantile that steers it is a query of its own, and what follows from results is no fixed schedule.",
    "Clip at a fixed norm, or account for the quantile's noise too and judge by a filter.",
    "Andrew et al. 2021, https://arxiv.org/abs/1905.03871",
)
NO_PRIVACY = Rule(
    "no-privacy",
    "warning",
    "no differential privacy at all",
    "Updates without noise can be turned back into records: at batch size 8 seven images in ten were.",
    "privacy=record; and if it must be none, say so to those whose records they are.",
    "Geiping et al. 2020, https://arxiv.org/abs/2003.14053",
)
SEVERAL_RECORDS = Rule(
    "several-records",
    "warning",
    "a record-level epsilon where people own several records",
    "The number is for one record; a person with k of them has about k times that.",
    "Tell it by its unit, or keep one record a person.",
    "Dwork and Roth 2014, Theorem 2.2 (group privacy)",
)
LEDGER_PER_RUN = Rule(
    "ledger-per-run",
    "warning",
    "every run begins with an empty ledger",
    "Without population.home the clients' ledgers lie in the run's folder, and a second run on the same data does not "
    "know what the first has spent.",
    "population.home=FOLDER keeps ledgers and budgets across runs.",
    "docs/privacy.md, repeated runs",
)
LARGE_DELTA = Rule(
    "large-delta",
    "warning",
    "a delta that allows to publish records",
    "Delta is a chance of failure for each record: at 1/n, publishing one record of n outright is allowed.",
    "A delta well below one over the number of records, e.g. privacy.delta=1e-5.",
    "Dwork and Roth 2014, section 2.3",
)
FEW_CLIENTS = Rule(
    "few-clients",
    "warning",
    "client-level privacy with few clients",
    "The noise must hide a whole client in the sum of a round. At epsilon 2 ten clients came to accuracy .22 where a "
    "thousand came to .88.",
    "Use record- or subject-level privacy with few clients; it needs far less noise.",
    "McMahan et al. 2018, https://arxiv.org/abs/1710.06963",
)
REFUSED = Rule(
    "refused",
    "error",
    "a combination that fedge itself refuses to run",
    "Its privacy statement would be false; what was seen says why.",
    "As the message names it.",
    "fedge/soundness.py",
)

RULES = (
    FRESH_ENGINE,
    BUDGET_IGNORED,
    NOT_POISSON,
    SENSITIVITY,
    CLASSICAL,
    FEWER_STEPS,
    MIXES_RECORDS,
    WEIGHTED_LOSS,
    EXAMPLE_WEIGHTS,
    INSECURE_NOISE,
    GDP,
    SEED_IN_ROUND,
    EMPTY_BATCH,
    METRICS_LEAVE,
    RATES_MULTIPLIED,
    ADAPTIVE_CLIPPING,
    NO_PRIVACY,
    SEVERAL_RECORDS,
    LEDGER_PER_RUN,
    LARGE_DELTA,
    FEW_CLIENTS,
    REFUSED,
)


def markdown() -> str:
    """Return all rules as the documentation prints them."""
    return "\n".join(
        f"### `{r.id}` ({r.severity})\n\n"
        f"**{r.title[0].upper()}{r.title[1:]}.** {r.why}\n\n*Fix:* {r.fix} *Source:* {r.source}.\n"
        for r in RULES
    )
