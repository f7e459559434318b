"""Histories drawn by hypothesis: few subjects, few moments, so that what can contradict does."""

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from fedge.consent.events import ACTS, PermissionEvent
from fedge.consent.purposes import CODES, PARENTS
from fedge.consent.request import Request
from fedge.encoding import timestamp

BEGIN = datetime(2028, 2, 28, 22, tzinfo=UTC)
"""Two hours before a leap day: hours drawn below cross it."""
SUBJECTS = ("anna", "bert", "*")


def hour(n: int) -> str:
    return timestamp(BEGIN + timedelta(hours=n))


PURPOSES = st.sampled_from([*PARENTS, *CODES])
MOMENTS = st.integers(0, 8).map(hour)


@st.composite
def events(draw: st.DrawFn, subjects: tuple[str, ...] = SUBJECTS) -> PermissionEvent | None:
    """Return an event, or None where the parts that were drawn do not make one."""
    subject = draw(st.sampled_from(subjects))
    try:
        return PermissionEvent(
            act=draw(st.sampled_from(ACTS)),
            kind=draw(st.sampled_from(["permit", "legal_basis"] if subject == "*" else ["consent", "opt_out"])),
            subject=subject,
            purposes=tuple(draw(st.lists(PURPOSES, min_size=1, max_size=2))),
            valid_from=draw(MOMENTS),
            recorded_at=draw(MOMENTS),
            valid_until=draw(st.none() | MOMENTS),
            evidence=draw(st.none() | st.just("sha256:" + "0" * 64)),
            record=draw(st.sampled_from([None, "R", "Q"])),
            excepted=draw(st.sampled_from([(), (), ("health-research",), ("commercial",)])),
            conditions=draw(st.sampled_from([(), (), ("NCU",), ("US=Charité",), ("UNKNOWN",)])),
            dataset=draw(st.sampled_from([None, None, "d", "d/x"])),
            categories=draw(st.sampled_from([(), (), ("lab",), ("imaging", "lab")])),
            data_from=draw(st.none() | st.just(hour(2))),
            data_until=draw(st.none() | st.just(hour(6))),
            controller=draw(st.sampled_from([None, None, "Charité"])),
            legal_bases=draw(st.sampled_from([(), ("eu-gdpr:A9-2-j",)])),
            unread=draw(st.sampled_from([(), (), ("expression",)])),
        )
    except ValueError:
        return None


def histories(subjects: tuple[str, ...] = SUBJECTS) -> st.SearchStrategy[list[PermissionEvent]]:
    return st.lists(events(subjects), max_size=8).map(lambda drawn: [e for e in drawn if e is not None])


@st.composite
def requests(draw: st.DrawFn) -> Request:
    return Request(
        purpose=draw(st.sampled_from([*PARENTS, "HRESCH", "world-domination"])),
        dataset=draw(st.sampled_from([None, "d", "d/x", "dx"])),
        categories=draw(st.sampled_from([(), ("lab",), ("imaging",)])),
        data_from=draw(st.none() | st.just(hour(3))),
        data_until=draw(st.none() | st.just(hour(5))),
        controller=draw(st.sampled_from([None, "Charité", "other"])),
        facts=draw(st.sampled_from([frozenset(), frozenset({"non_commercial", "user=Charité"})])),
    )
