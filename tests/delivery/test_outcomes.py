"""What each HTTP status means for a batch."""

from __future__ import annotations

import pytest

from whisperr._delivery.outcome import Outcome, is_transient, outcome_of

# The first range that holds a status says its class; between them they hold 100 to 999.
CLASSES = [
    (range(200, 300), Outcome.OK),
    (range(401, 402), Outcome.AUTH),
    (range(403, 404), Outcome.AUTH),
    (range(408, 409), Outcome.RETRY),
    (range(425, 426), Outcome.RETRY),
    (range(429, 430), Outcome.RETRY),
    (range(500, 1000), Outcome.RETRY),
    (range(100, 200), Outcome.REDIRECT),
    (range(300, 400), Outcome.REDIRECT),
    (range(400, 401), Outcome.REFUSE),
    (range(413, 415), Outcome.REFUSE),
    (range(422, 423), Outcome.REFUSE),
    (range(431, 432), Outcome.REFUSE),
    (range(404, 406), Outcome.ELSEWHERE),
    (range(407, 408), Outcome.ELSEWHERE),
    (range(421, 422), Outcome.ELSEWHERE),
    (range(423, 424), Outcome.ELSEWHERE),
    (range(451, 452), Outcome.ELSEWHERE),
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


@pytest.mark.parametrize("content_type", ["text/html", "TEXT/HTML; charset=utf-8", " text/html;"])
def test_a_page_is_no_delivery(content_type: str) -> None:
    """A success that is a page comes from somewhere else; other statuses mean what they mean."""
    assert outcome_of(200, content_type) is outcome_of(204, content_type) is Outcome.ELSEWHERE
    assert outcome_of(503, content_type) is Outcome.RETRY
    assert outcome_of(400, content_type) is Outcome.REFUSE


@pytest.mark.parametrize("content_type", ["", "application/json", "text/plain", "text/htmlx"])
def test_what_is_no_page_is_a_delivery(content_type: str) -> None:
    """A service may leave the type out, or name any other."""
    assert outcome_of(202, content_type) is Outcome.OK
