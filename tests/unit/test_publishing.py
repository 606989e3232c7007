"""What waits between commit and broker: only for a large audience, and only once."""

from __future__ import annotations

from qunxin.broker import Batch
from qunxin.engine.publishing import LARGE_AUDIENCE_SESSIONS, Publisher
from qunxin.model import Entry

TEA, TALK = "group:tea", "private:a:b"
NOTHING: frozenset[str] = frozenset()


class Published:
    """A publisher and what it has published: conversation, first and last position."""

    def __init__(self, **audiences: int) -> None:
        self.batches: list[tuple[str, int, int]] = []
        sizes = {TEA: audiences.get("tea", 0), TALK: audiences.get("talk", 0)}
        self.publisher = Publisher(self._take, sizes.__getitem__)

    def _take(self, batch: Batch) -> None:
        positions = [entry.position for entry in batch.entries]
        assert positions == list(range(batch.first, batch.last + 1))
        self.batches.append((batch.conversation, batch.first, batch.last))

    def add(self, conversation: str, *positions: int, type: str = "group") -> None:  # noqa: A002
        self.publisher.add([Entry(conversation, at, type, 0) for at in positions])


def test_a_large_audience_is_served_when_nothing_comes() -> None:
    published = Published(tea=LARGE_AUDIENCE_SESSIONS)
    published.add(TEA, 1, 2)
    assert published.batches == []
    published.publisher.release(NOTHING)
    published.publisher.release(NOTHING)
    assert published.batches == [(TEA, 1, 2)]


def test_a_small_audience_never_waits() -> None:
    published = Published(tea=LARGE_AUDIENCE_SESSIONS - 1)
    published.add(TEA, 1)
    published.add(TALK, 7)
    assert published.batches == [(TEA, 1, 1), (TALK, 7, 7)]


def test_a_large_audience_waits_for_more_of_the_same_once() -> None:
    published = Published(tea=LARGE_AUDIENCE_SESSIONS)
    coming = frozenset({TEA})
    published.add(TEA, 1)
    published.publisher.release(coming)
    assert published.batches == []
    published.add(TEA, 2, 3)
    published.publisher.release(coming)
    assert published.batches == [(TEA, 1, 3)]
    published.add(TEA, 4)
    published.publisher.release(coming)
    assert len(published.batches) == 1
    published.publisher.release(NOTHING)
    assert published.batches[1:] == [(TEA, 4, 4)]


def test_a_large_audience_does_not_wait_for_others() -> None:
    published = Published(tea=LARGE_AUDIENCE_SESSIONS)
    published.add(TEA, 1)
    published.publisher.release(frozenset({TALK}))
    assert published.batches == [(TEA, 1, 1)]


def test_a_transaction_that_adds_nothing_ends_the_waiting_too() -> None:
    published = Published(tea=LARGE_AUDIENCE_SESSIONS)
    published.add(TEA, 1)
    published.publisher.release(frozenset({TEA}))
    assert published.batches == []
    published.publisher.release(frozenset({TEA}))
    assert published.batches == [(TEA, 1, 1)]


def test_a_recall_waits_for_nothing_and_takes_along_what_waits() -> None:
    published = Published(tea=LARGE_AUDIENCE_SESSIONS)
    published.add(TEA, 1)
    published.publisher.release(frozenset({TEA}))
    published.add(TEA, 2, type="recalled")
    assert published.batches == [(TEA, 1, 2)]
    published.publisher.release(NOTHING)
    assert len(published.batches) == 1
