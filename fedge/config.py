"""The whole configuration of a run, as frozen values.

`compose` fills these from YAML and overrides; `encoding.from_plain` decodes strictly, so an unknown key, a wrong
type or an impossible value is an error that names the key. Units and bounds stand here, once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from fedge.audit.parts import Continues
from fedge.encoding import decimal
from fedge.learning.aggregation import Strategy
from fedge.learning.compression import Compression
from fedge.learning.recipe import MOST_BANDS, Method
from fedge.policy import ClientPolicy


def _within(name: str, value: float, low: float, high: float, *, open_low: bool = False) -> None:
    if not (low < value <= high if open_low else low <= value <= high):
        bracket = "(" if open_low else "["
        raise ValueError(f"{name} is {value}, expected a value in {bracket}{low}, {high}]")


@dataclass(frozen=True)
class TaskConfig:
    """What is learned: a shipped task by name, and the folder its files lie in where it needs one."""

    name: str = "cancer"
    folder: str | None = None


@dataclass(frozen=True)
class Population:
    """Who holds the data, in a simulation.

    `partition` splits the training records: by given `shares` of the records with label skew, evenly (iid), by a
    Dirichlet draw over labels with concentration `alpha`, by the data's own sites, or by label shards.
    `evaluation_share` is held back at each client for federated evaluation. `budgets` names clients whose epsilon
    budget differs from the run's `privacy.epsilon`. `home` keeps the clients' folders (keys, permissions, ledgers)
    outside the run, so that budgets hold across runs. `organisations` is how many organisations the clients belong to,
    in turn; null: each is one of its own. A quorum of organisations vouches for every round, so thousands of devices
    need few. `packed` lets clients share a few database files (null: if there are more than 200).
    """

    clients: int = 5
    partition: Literal["shares", "iid", "dirichlet", "site", "shards"] = "shares"
    shares: tuple[float, ...] = (0.36, 0.26, 0.18, 0.12, 0.08)
    skew: float = 0.3
    alpha: float = 0.5
    shards_per_client: int = 2
    prefix: str = "hospital"
    evaluation_share: float = 0.15
    budgets: dict[str, float] = field(default_factory=dict)
    home: str | None = None
    organisations: int | None = None
    packed: bool | None = None

    def __post_init__(self) -> None:
        _within("clients", self.clients, 1, 100_000)
        if self.organisations is not None:
            _within("organisations", self.organisations, 1, self.clients)
        if self.partition == "shares" and len(self.shares) != self.clients:
            raise ValueError(
                f"clients is {self.clients}, but shares names {len(self.shares)}; give one share to each client, e.g. "
                "shares=[0.5,0.3,0.2], or choose population=iid"
            )
        _within("skew", self.skew, 0, 1)
        _within("alpha", self.alpha, 0, 1e6, open_low=True)
        _within("evaluation_share", self.evaluation_share, 0, 0.9)


@dataclass(frozen=True)
class Training:
    """One client's work in one round: `steps` of SGD.

    With privacy each step reads a Poisson sample of rate `sample_rate`, and divides by the fixed, public
    `normaliser` (records). Without privacy it reads shuffled batches of `batch_size`. Under `privacy.unit` subject the
    sample is of people, and the normaliser a number of people. `clipping` is how clipped sums are computed: hooks,
    ghost (for models whose linear layers alone learn), or auto, the faster one that fits.
    """

    steps: int = 20
    learning_rate: float = 0.5
    momentum: float = 0.0
    weight_decay: float = 0.0
    sample_rate: float = 0.2
    normaliser: float = 20.0
    batch_size: int = 16
    clipping: Method = "auto"

    def __post_init__(self) -> None:
        _within("steps", self.steps, 1, 1_000_000)
        _within("learning_rate", self.learning_rate, 0, 1e3, open_low=True)
        _within("momentum", self.momentum, 0, 0.999)
        _within("weight_decay", self.weight_decay, 0, 1)
        _within("sample_rate", self.sample_rate, 0, 1, open_low=True)
        _within("normaliser", self.normaliser, 0, 1e9, open_low=True)
        _within("batch_size", self.batch_size, 1, 1_000_000)


@dataclass(frozen=True)
class Privacy:
    """The privacy that the whole run promises each record, or each subject, and what it is made of.

    `epsilon` at `delta` for the whole planned run, adjacency add/remove one unit, noise added by the client. A record
    level epsilon protects nobody who owns several records: `unit` subject samples people, and clips all that one adds.

    With `adaptive_clipping` the clip norm begins each round at `clip_norm` and follows the share `clip_quantile` of
    units within it, up to `largest_clip_norm` (10 times `clip_norm` if null), in steps of `clip_learning_rate`. The
    count of units has Gaussian noise of standard deviation `count_noise` (null: as little as costs the sum 2 % more
    noise), out of the same epsilon.
    `noise` seeded makes a simulation repeatable and protects nobody; secure draws from the operating system.

    With `secure_aggregation` the server sees the sum of the updates only, each shortened to the L2 norm `update_norm`,
    and `colluding` clients may be on its side; in a large session `dropouts` of them (a tenth if that is more) may go
    missing. Then `noise_at` distributed lets each client add a share of the noise,
    such that the shares of all but `colluding` and `dropouts` of them are what the epsilon needs; each step is a sum.

    `unit` client protects a client with all it holds: updates are clipped to `clip_norm`, and the server, which is
    trusted with them, adds the noise (`noise_at` server); or nobody is, and clients add it in shares to a secure sum
    (`noise_at` distributed with `secure_aggregation`), in which nothing is sampled. With `mechanism` gaussian, at the
    server, all clients are asked, and a coin of probability `sampling.fraction` that only the server sees decides whose
    answers are summed. With banded (DP-FTRL) so many are asked as `sampling.fraction` says, each at most once in
    `bands` rounds (null: as many as the fraction allows), and the noise is correlated over them. `expected` is what
    sums are divided by (null: how many clients are in a sum on average).
    """

    unit: Literal["none", "record", "subject", "client"] = "record"
    epsilon: float = 4.0
    delta: float = 1e-5
    clip_norm: float = 1.0
    noise: Literal["seeded", "secure"] = "seeded"
    noise_at: Literal["client", "distributed", "server"] = "client"
    mechanism: Literal["gaussian", "banded"] = "gaussian"
    bands: int | None = None
    expected: float | None = None
    secure_aggregation: bool = False
    colluding: int = 1
    dropouts: int = 0
    update_norm: float = 16.0
    adaptive_clipping: bool = False
    clip_quantile: float = 0.5
    clip_learning_rate: float = 0.2
    count_noise: float | None = None
    largest_clip_norm: float | None = None

    def __post_init__(self) -> None:
        _within("epsilon", self.epsilon, 0, 1e4, open_low=True)
        _within("delta", self.delta, 0, 0.1, open_low=True)
        _within("clip_norm", self.clip_norm, 0, 1e6, open_low=True)
        _within("colluding", self.colluding, 0, 1000)
        _within("dropouts", self.dropouts, 0, 1000)
        _within("update_norm", self.update_norm, 0, 1e6, open_low=True)
        _within("clip_quantile", self.clip_quantile, 0.01, 0.99)
        _within("clip_learning_rate", self.clip_learning_rate, 0, 10, open_low=True)
        if self.bands is not None:
            _within("bands", self.bands, 2, MOST_BANDS)
        if self.expected is not None:
            _within("expected", self.expected, 0, 1e9, open_low=True)
        if self.count_noise is not None:
            _within("count_noise", self.count_noise, 0, 1e6, open_low=True)
        if self.largest_clip_norm is not None:
            _within("largest_clip_norm", self.largest_clip_norm, self.clip_norm, 1e6)


@dataclass(frozen=True)
class Withdrawal:
    """In a simulation: before round `round`, one subject of `client` withdraws."""

    round: int
    client: str


@dataclass(frozen=True)
class Permissions:
    """The permission records of a simulated population: what it rests on, and who did not simply agree.

    `basis` consent asks each person; permit and legal_basis cover the whole data set under `legal_bases` (and the
    permit's `number`), and only those who refused or opted out have a record of their own. The shares are of subjects.
    `facts` are what the owners state about every use, in the words of `consent.conditions`.
    """

    basis: Literal["consent", "permit", "legal_basis"] = "consent"
    number: str | None = None
    legal_bases: tuple[str, ...] = ("eu-gdpr:A6-1-a", "eu-gdpr:A9-2-a")
    facts: tuple[str, ...] = ()
    refused: float = 0.06
    expired: float = 0.04
    missing: float = 0.02
    opted_out: float = 0.0
    withdrawals: tuple[Withdrawal, ...] = ()

    def __post_init__(self) -> None:
        shares = ("refused", "expired", "missing", "opted_out")
        for name in shares:
            _within(name, getattr(self, name), 0, 1)
        if sum(getattr(self, name) for name in shares) > 1:
            raise ValueError(f"{', '.join(shares)} are shares of the subjects and cannot exceed 1 together")
        if not self.legal_bases:
            raise ValueError("legal_bases: name at least one, e.g. eu-gdpr:A9-2-j")
        if self.basis == "consent" and self.legal_bases != Permissions.legal_bases:
            raise ValueError("legal_bases are for basis=permit and basis=legal_basis; consent rests on consent")
        if self.basis == "permit" and not self.number:
            raise ValueError("basis=permit: name the permit, e.g. consent.number=HDAB-2026-0017")


@dataclass(frozen=True)
class Sampling:
    """Which clients a round asks, and how many answers it needs before a new model is made."""

    fraction: float = 1.0
    minimum_clients: int = 2
    minimum_updates: int = 2

    def __post_init__(self) -> None:
        _within("fraction", self.fraction, 0, 1, open_low=True)
        _within("minimum_clients", self.minimum_clients, 1, 1_000_000)
        _within("minimum_updates", self.minimum_updates, 1, 1_000_000)


@dataclass(frozen=True)
class Evaluation:
    """How the model is judged: always on the server's public test set, and on request at the clients.

    `federated` noised asks each client, after the last round, for its count of correct answers with Gaussian noise
    worth `epsilon` at the run's delta, on records it never trained on; none asks nothing. `baselines` also trains the
    same model centrally and at each client alone, without privacy, `baseline_steps` of SGD each.
    """

    federated: Literal["none", "noised"] = "noised"
    epsilon: float = 4.0
    baselines: bool = False
    baseline_steps: int = 1500
    baseline_learning_rate: float = 0.1

    def __post_init__(self) -> None:
        _within("epsilon", self.epsilon, 0, 1e4, open_low=True)
        _within("baseline_steps", self.baseline_steps, 1, 10_000_000)
        _within("baseline_learning_rate", self.baseline_learning_rate, 0, 1e3, open_low=True)


@dataclass(frozen=True)
class Log:
    """Where the server keeps its log: a file of its own, or a PostgreSQL database that it shares.

    `dsn` is a libpq connection string or URL. It is in config.json, which everybody may read, so it holds no password:
    that comes from ~/.pgpass or PGPASSFILE.
    """

    store: Literal["sqlite", "postgresql"] = "sqlite"
    dsn: str | None = None

    def __post_init__(self) -> None:
        if (self.store == "postgresql") != (self.dsn is not None):
            raise ValueError("log.dsn names the database of log.store=postgresql, and belongs to no other store")
        if self.dsn is not None and _PASSWORD.search(self.dsn):
            raise ValueError("log.dsn holds a password, and config.json is public; put it in ~/.pgpass instead")


_PASSWORD = re.compile(r"(?i)\bpassword\s*=|://[^/@?]*:[^/@?]*@")


@dataclass(frozen=True)
class RunConfig:
    """One run, completely: what `fedge run` composes and the run folder keeps.

    `engine` says how clients are run in a simulation (docs/simulation.md), `workers` how many processes engine=pool has
    (null: one for each core), and engine=vectorised (null: one). `keep_states` is how many of its states the server
    keeps, null for one a round. `continues` is set by `fedge unlearn`: the run whose rounds this one redoes, and from
    where.
    """

    task: TaskConfig = field(default_factory=TaskConfig)
    population: Population = field(default_factory=Population)
    training: Training = field(default_factory=Training)
    privacy: Privacy = field(default_factory=Privacy)
    strategy: Strategy = field(default_factory=Strategy)
    compression: Compression = field(default_factory=Compression)
    consent: Permissions = field(default_factory=Permissions)
    policy: ClientPolicy = field(default_factory=ClientPolicy)
    sampling: Sampling = field(default_factory=Sampling)
    evaluation: Evaluation = field(default_factory=Evaluation)
    log: Log = field(default_factory=Log)
    engine: Literal["flower", "direct", "pool", "vectorised", "auto"] = "flower"
    workers: int | None = None
    tracking: Literal["none", "tensorboard", "mlflow"] = "none"
    purpose: str = "health-research"
    rounds: int = 15
    seed: int = 7
    out: str = "runs"
    keep_states: int | None = None
    continues: Continues | None = None

    def __post_init__(self) -> None:
        if self.keep_states is not None:
            _within("keep_states", self.keep_states, 1, 1_000_000)
        if self.workers is not None:
            _within("workers", self.workers, 1, 1_000)
        _within("rounds", self.rounds, 1, 1_000_000)
        _within("seed", self.seed, 0, 2**53 - 1)


def signable(plain: Any) -> Any:
    """Return plain configuration with floats as decimal strings, so that it has canonical bytes and a digest."""
    if isinstance(plain, float):
        return decimal(plain)
    if isinstance(plain, dict):
        return {key: signable(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [signable(value) for value in plain]
    return plain
