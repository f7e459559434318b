"""One person, many records: what protects the person, measured on digits that are grouped by writer."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fedge.learning.loader import Loader
from fedge.learning.models import initial
from fedge.learning.recipe import Poisson, Recipe, RecordLevel
from fedge.learning.scoring import COUNT_GRID, correct
from fedge.learning.task import Records
from fedge.learning.training import train
from fedge.privacy import noise
from tests.learning.test_mechanism import CLIP, Noiseless, flat
from tests.learning.wearables import by_writer

TASK = by_writer(writers=40)
HELD = TASK.load().train
START = initial(TASK.model, 1)
ALL = Recipe(1, 1.0, Poisson(1.0, 1.0), RecordLevel(1.0, CLIP, "subject"))


def loader(held: Records, seen: list[NDArray[np.int64]] | None = None) -> Loader:
    told = None if seen is None else seen.append
    return Loader(held, np.arange(len(held), dtype=np.int64), lambda asked: np.ones(len(asked), np.bool_), told)


def summed(held: Records, recipe: Recipe = ALL) -> NDArray[np.float64]:
    return -flat(train(TASK, START, loader(held), recipe, Noiseless(bytes(32), "none", secure=False)).delta)


def without(held: Records, subject: str) -> Records:
    return held.take(np.asarray([i for i, s in enumerate(held.subjects) if s != subject], dtype=np.int64))


def test_the_data_are_such_that_it_matters() -> None:
    assert max(HELD.subjects.count(s) for s in set(HELD.subjects)) > 20


@pytest.mark.parametrize("writer", sorted(set(HELD.subjects))[::8])
def test_one_person_moves_the_sum_by_at_most_the_clip_norm(writer: str) -> None:
    assert np.linalg.norm(summed(HELD) - summed(without(HELD, writer))) <= CLIP


def test_clipping_per_record_would_not_do() -> None:
    """The planted bug: the unit says subject, and each record is clipped alone."""
    wrong = replace(ALL, privacy=RecordLevel(1.0, CLIP))
    writer = HELD.subjects[0]
    assert np.linalg.norm(summed(HELD, wrong) - summed(without(HELD, writer), wrong)) > 3 * CLIP


def test_batches_are_samples_of_people_with_all_their_records() -> None:
    seen: list[NDArray[np.int64]] = []
    recipe = Recipe(60, 0.1, Poisson(0.3, 12.0), RecordLevel(1.0, 1.0, "subject"))
    train(TASK, START, loader(HELD, seen), recipe, noise.seeded(3))
    owners = np.asarray(HELD.subjects)
    people = [set(owners[batch]) for batch in seen]
    for batch, present in zip(seen, people, strict=True):
        assert sorted(batch) == np.flatnonzero(np.isin(owners, sorted(present))).tolist()
    sizes = np.asarray([len(p) for p in people])
    assert sizes.mean() == pytest.approx(12, abs=5 * np.sqrt(40 * 0.21 / 60))
    assert sizes.var() == pytest.approx(40 * 0.21, rel=0.6)


def test_a_record_that_is_refused_at_the_last_moment_stays_out_of_its_owners_sum() -> None:
    refused = np.zeros(len(HELD), np.bool_)
    refused[5] = True
    reader = Loader(HELD, np.arange(len(HELD)), lambda asked: ~refused[asked])
    quiet = Noiseless(bytes(32), "none", secure=False)
    seen = -flat(train(TASK, START, reader, ALL, quiet).delta)
    np.testing.assert_allclose(seen, summed(HELD.take(np.flatnonzero(~refused))), atol=1e-5)


def test_a_broken_record_takes_nothing_from_its_owners_other_records() -> None:
    broken = Records(HELD.features.copy(), HELD.targets, HELD.subjects)
    broken.features[5] = np.nan
    rest = HELD.take(np.asarray([i for i in range(len(HELD)) if i != 5], dtype=np.int64))
    np.testing.assert_allclose(summed(broken), summed(rest), atol=1e-5)


def test_people_are_counted_in_an_evaluation_each_as_one() -> None:
    hits, total = correct(TASK, START, loader(HELD), by_owner=True)
    assert total == len(set(HELD.subjects))
    for writer in sorted(set(HELD.subjects))[::10]:
        fewer = correct(TASK, START, loader(without(HELD, writer)), by_owner=True)
        assert np.hypot(hits - fewer[0], total - fewer[1]) <= np.sqrt(2)
        assert hits / COUNT_GRID == round(hits / COUNT_GRID)
    plain = correct(TASK, START, loader(HELD))
    assert abs(plain[1] - correct(TASK, START, loader(without(HELD, HELD.subjects[0])))[1]) > 1
