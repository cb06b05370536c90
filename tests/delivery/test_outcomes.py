"""What each HTTP status means for a batch."""

from __future__ import annotations

import pytest

from whisperr._delivery.outcome import Outcome, is_transient, outcome_of

# The first range that holds a status says its class; between them they hold 100 to 999.
CLASSES = [
    (range(200, 300), Outcome.OK),
    (range(401, 402), Outcome.AUTH),
    (range(403, 404), Outcome.AUTH),
    (range(429, 430), Outcome.RETRY),
    (range(500, 1000), Outcome.RETRY),
    (range(100, 200), Outcome.REDIRECT),
    (range(300, 400), Outcome.REDIRECT),
    (range(400, 401), Outcome.REFUSE),
    (range(413, 414), Outcome.REFUSE),
    (range(422, 423), Outcome.REFUSE),
    (range(400, 500), Outcome.DROP),
]


def test_a_status_has_its_class() -> None:
    """The table of the contract, for every number that a status line can hold."""
    wrong = {
        status: outcome_of(status)
        for status in range(100, 1000)
        if outcome_of(status)
        is not next(outcome for statuses, outcome in CLASSES if status in statuses)
    }
    assert wrong == {}


def test_only_what_may_change_by_itself_is_transient() -> None:
    """The same rule says which answers are worth another attempt: no class but RETRY has one."""
    for status in range(100, 1000):
        assert is_transient(status) == (outcome_of(status) is Outcome.RETRY)


@pytest.mark.parametrize("status", [-1, 0, 1, 99, 1000])
def test_what_is_no_status_is_a_broken_server(status: int) -> None:
    """Neither delivered nor refused: kept, and tried again."""
    assert outcome_of(status) is Outcome.RETRY


def test_every_class_occurs() -> None:
    """No member of Outcome is without a status."""
    assert {outcome_of(status) for status in range(100, 1000)} == set(Outcome)
