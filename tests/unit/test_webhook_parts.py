"""The pure parts of webhooks: which event goes out next, where one may go, what answers mean."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qunxin.engine.webhooks import EVENT_OF
from qunxin.gateways.webhooks.events import event_id
from qunxin.gateways.webhooks.post import seconds_until
from qunxin.gateways.webhooks.sockets import RefusedAddressError, guarded_sockets
from qunxin.gateways.webhooks.window import Window
from qunxin.store.reads import OutboxItem, OutboxPage
from qunxin.stores.sqlite.rows import TYPE_CODES


def item(serial: int, conversation: str = "group:tea") -> OutboxItem:
    return OutboxItem(serial, conversation, serial, "group", 0)


def page(*items: OutboxItem, through: int | None = None) -> OutboxPage:
    last = items[-1].serial if items else 0
    return OutboxPage(items, last if through is None else through, 1_000)


def test_every_entry_outside_inboxes_is_an_event() -> None:
    """A new type of entry without an event's name would stop every webhook."""
    inbox = {"member", "ceased", "contact", "account", "sessions_ended"}
    assert set(EVENT_OF) == {str(kind) for kind in TYPE_CODES} - inbox


def take(window: Window, now: float) -> OutboxItem | None:
    """The next, which is under way then."""
    found = window.next(now)
    if found is not None:
        window.take(found)
    return found


def test_what_waits_is_told_by_its_serials() -> None:
    """All below where reading stands, whatever was dealt with between; each change shows in the
    version."""
    window = Window(10, 100)
    tea, rice = item(12), item(15, "group:米")
    window.add(page(tea, rice, through=20), lambda _: True)
    assert (window.through, window.serials, window.oldest) == (20, (12, 15), tea)
    assert [take(window, 0), take(window, 0), take(window, 0)] == [tea, rice, None]
    before = window.version
    window.done(rice)
    assert (window.serials, window.oldest) == ((12,), tea)
    assert window.version > before
    window.done(tea)
    assert (window.through, window.serials, window.oldest, len(window)) == (20, (), None, 0)


def test_what_was_left_waiting_goes_first() -> None:
    """It takes up room, stands before what is read after it, and leaves where reading stands."""
    window = Window(20, 4)
    window.restore([item(12), item(15, "group:米")])
    assert (window.through, window.serials, window.room) == (20, (12, 15), 2)
    assert window.version > 0
    window.add(page(item(21), item(22, "group:盐")), lambda _: True)
    assert (window.through, window.serials, window.room) == (22, (12, 15, 21, 22), 0)
    assert [take(window, 0), take(window, 0), take(window, 0)] == [
        item(12),
        item(15, "group:米"),
        item(22, "group:盐"),
    ]
    window.done(item(12))
    assert take(window, 0) == item(21)


def test_a_conversation_that_failed_waits_and_no_other() -> None:
    """What is behind a failure comes after it; what is elsewhere comes at once."""
    window = Window(0, 100)
    first, second, other = item(1), item(2), item(3, "private:安~bo")
    window.add(page(first, second, other), lambda _: True)
    assert take(window, 0) == first
    window.put_off(first, 5.0)
    assert (take(window, 1), take(window, 1)) == (other, None)
    assert (window.next_due, window.failures(first)) == (5.0, 1)
    assert window.next(4.9) is None
    assert take(window, 5.0) == first
    window.done(first)
    assert take(window, 5.0) == second
    assert window.failures(second) == 0


def test_those_that_failed_and_those_that_have_not() -> None:
    """Either can be asked for, whoever comes first in turn; what is behind an event that failed
    counts with it."""
    window = Window(0, 100)
    bad, behind, good = item(1), item(2), item(3, "private:安~bo")
    window.add(page(bad, behind), lambda _: True)
    window.take(bad)
    window.put_off(bad, 1.0)
    assert window.next(1.0) == bad
    window.add(page(good), lambda _: True)
    assert window.next(1.0) == bad
    assert window.next(1.0, failed=True) == bad
    assert window.next(1.0, failed=False) == good
    window.take(good)
    assert window.next(1.0, failed=False) is None
    window.take(bad)
    assert window.next(1.0) is None


def test_what_is_void_goes_first() -> None:
    """An event that was broken off is the next one, without counting as a failure."""
    window = Window(0, 100)
    window.add(page(item(1), item(2, "group:米")), lambda _: True)
    taken = take(window, 0)
    assert taken is not None
    window.again(taken)
    assert (take(window, 0), window.failures(taken)) == (taken, 0)


@given(st.integers(), st.integers(1, 60), st.integers(1, 5), st.integers(0, 30))
def test_any_course_keeps_order_and_loses_nothing(
    seed: int, count: int, lanes: int, restart: int
) -> None:
    """Whatever fails, is broken off or done in whatever order, and begun anew from what waits at
    any moment: each event is done once, in order within its conversation, never two of one
    conversation at once."""
    chance = random.Random(seed)
    window = Window(0, 1_000)
    items = [item(n + 1, f"group:{chance.randrange(lanes)}") for n in range(count)]
    window.add(page(*items), lambda _: True)
    flying: list[OutboxItem] = []
    done: list[OutboxItem] = []
    now = 0.0
    while len(done) < count:
        now += 1
        if now == restart:
            serials, flying = window.serials, []
            window = Window(window.through, 1_000)
            window.restore(one for one in items if one.serial in serials)
        taken = take(window, now)
        if taken is not None:
            assert taken.conversation not in {one.conversation for one in flying}
            flying.append(taken)
        if flying and chance.random() < 0.8:
            one = flying.pop(chance.randrange(len(flying)))
            course = chance.choice(("done", "failed", "void"))
            if course == "done":
                window.done(one)
                done.append(one)
            elif course == "failed":
                window.put_off(one, now + chance.randrange(3))
            else:
                window.again(one)
        assert window.serials == tuple(one.serial for one in items if one not in done)
    assert window.through == count
    for lane in range(lanes):
        own = [one.serial for one in done if one.conversation == f"group:{lane}"]
        assert own == sorted(own)
    assert len(window) == 0


def _info(address: str) -> tuple[object, ...]:
    import socket

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return (family, socket.SOCK_STREAM, 0, "", (address, 443))


def test_sockets_only_for_allowed_places() -> None:
    """Public addresses over TLS, named networks over anything, nothing else."""
    tls = guarded_sockets(("10.2.0.0/16", "fd00::/8"), public=True)
    plain = guarded_sockets(("10.2.0.0/16",), public=False)
    for make, address in (
        (tls, "10.2.3.4"),
        (tls, "fd00::1"),
        (tls, "93.184.216.34"),
        (plain, "10.2.3.4"),
    ):
        make(_info(address)).close()
    for make, address in ((tls, "10.3.0.1"), (tls, "127.0.0.1"), (plain, "93.184.216.34")):
        with pytest.raises(RefusedAddressError):
            make(_info(address))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("99999999999999999999", 86_400.0),
        ("Mon, 23 Nov 2026 10:00:30 GMT", 30.0),
        ("Mon, 23 Nov 2020 10:00:30 GMT", 0.0),
        ("-5", None),
        ("很快", None),
        ("", None),
    ],
)
def test_retry_after(header: str, seconds: float | None) -> None:
    """Seconds or a date, never more than a day, never less than none; nonsense says nothing."""
    assert seconds_until(header, datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)) == seconds


def test_event_ids_have_no_full_stop() -> None:
    """It parts the id from the time in what is signed."""
    found = event_id("Ep-0_ch", item(7, "private:a.b@c~d"))
    assert found == "Ep-0_ch:private:a%2Eb@c~d:7"
