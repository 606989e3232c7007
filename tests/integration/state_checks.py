"""What is observed in a scenario, held against the reference model: records, pages, ledgers."""

from __future__ import annotations

from doors import At, Device, Door, Json, is_message, text_of
from model_reference import BROADCAST, Facts, Model

_COMPARED = ("users", "reason", "target", "state", "conversation_joined", "conversation_left",
             "joined", "last", "muted", "member_muted", "user")  # fmt: skip


class Observer:
    """The devices of a scenario and what is known of them."""

    def __init__(self, door: Door, model: Model) -> None:
        self.door = door
        self.model = model
        self.online: list[Device] = []
        self.stored: list[tuple[str, dict[str, At]]] = []
        """Devices that went offline: whose, and where they stood."""
        self._given: dict[tuple[str, str], int] = {}
        """The highest position that any device of a user was given, or that the user read."""
        self._may_have: dict[int, set[tuple[str, int]]] = {}
        """By device: messages recalled while it was online, whose content it may have."""
        self._bases: dict[int, dict[str, int]] = {}
        self._floor = model.head(BROADCAST)

    def floor(self, conversation: str) -> int:
        """Up to here the log belongs to others."""
        return self._floor if conversation == BROADCAST else 0

    # --- devices come and go -----------------------------------------------------------------

    def connected(self, device: Device, positions: dict[str, At]) -> None:
        """Check where the new device begins, and watch it from now on."""
        self.online.append(device)
        self._may_have[id(device)] = set()
        begun = self._bases[id(device)] = {}
        own = self.model.own(device.user)
        assert set(own) == set(device.starts), "begins in exactly the own conversations"
        for name in own:
            start = device.starts[name]
            assert not start.must_reload
            begun[name] = start.position
            if name in positions:
                assert start.position == positions[name].position
            else:
                self._check_nothing_skipped(device.user, name, start.position)

    def _check_nothing_skipped(self, user: str, name: str, begins: int) -> None:
        """A device without a position may skip only what another one was given."""
        stays = self.model.stays_of(user, name)
        given = self._given.get((user, name), 0)
        skipped = [p for p in range(1, begins + 1) if p > given and any(s.counts(p) for s in stays)]
        assert not skipped, f"{user} in {name} never gets {skipped}"

    def note_what_was_given(self) -> None:
        for device in self.online:
            for name in device.record:
                pair = device.user, name
                self._given[pair] = max(self._given.get(pair, 0), device.at(name))
        for pair, at in self.model.read.items():
            self._given[pair] = max(self._given.get(pair, 0), at)

    def recalled(self, conversation: str, position: int) -> None:
        for known in self._may_have.values():
            known.add((conversation, position))

    async def disconnect(self, index: int) -> None:
        device = self.online.pop(index)
        await device.close()
        self._retire(device)

    def _retire(self, device: Device) -> None:
        """Nothing comes any more: keep what it has seen, and its place."""
        self._check_record(device)
        self.online.append(device)
        self.note_what_was_given()
        self.online.remove(device)
        if self.model.users[device.user] != "erased":
            self.stored.append((device.user, device.positions()))

    async def restart(self) -> None:
        """The store is closed in order and opened again; every device is offline then."""
        await self.settle()
        devices, self.online = self.online, []
        for device in devices:
            await device.close()
            self._retire(device)
        await self.door.restart()

    # --- settling ----------------------------------------------------------------------------

    async def settle(self) -> None:
        """Wait until every device has what it is due, or was ended with its account."""
        for device in list(self.online):
            if self.model.users[device.user] == "active":
                await self._settle(device)
            elif self.door.pushes:
                await device.until(lambda device=device: device.ended is not None)  # type: ignore[misc]
                self.online.remove(device)
                await device.close()
                self._retire(device)
        self.check_records()

    async def _settle(self, device: Device) -> None:
        if device.ended is not None:
            return
        own = self.model.own(device.user)
        for name in own:
            await device.reach(name, self.model.head(name))
        for name in device.record.keys() - set(own):
            stay = self.model.stays_of(device.user, name)[-1]
            if stay.last is not None and device.at(name) >= stay.joined - 1:
                await device.reach(name, stay.last)

    # --- records -----------------------------------------------------------------------------

    def check_records(self) -> None:
        for device in self.online:
            self._check_record(device)

    def _check_record(self, device: Device) -> None:
        assert not device.faults, device.faults
        for name, seen in device.record.items():
            view = self.model.view(device.user, name)
            for entry in seen:
                self._check_seen(device, name, entry, view)
            self._check_begun(device, name, seen[0])

    def _check_begun(self, device: Device, name: str, first: Json) -> None:
        """A stay that began while the device was online is there from its first entry."""
        before = (first["first"] if first["type"] == "hidden" else first["position"]) - 1
        begun = self._bases[id(device)]
        if name not in begun:
            stays = self.model.stays_of(device.user, name)
            assert any(before < stay.joined for stay in stays)
            begun[name] = before
        assert begun[name] == before

    def _check_seen(
        self, device: Device, name: str, entry: Json, view: dict[int, Facts | None]
    ) -> None:
        if entry["type"] == "hidden":
            assert all(view[p] is None for p in range(entry["first"], entry["last"] + 1)), entry
            return
        due = view.get(entry["position"])
        assert due is not None, f"{device.user} must not see {entry}"
        may_have = (name, entry["position"]) in self._may_have[id(device)]
        check_entry(entry, due, may_have_content=may_have)

    # --- everything, at the end --------------------------------------------------------------

    async def check_everything(self) -> None:
        """All have all; every page and every ledger agrees with the model."""
        await self.settle()
        self.note_what_was_given()
        for user, state in self.model.users.items():
            if state != "erased":
                for name in self.model.ever(user):
                    await self._check_pages(name, user)
        for name in self.model.logs:
            if not name.startswith("inbox:"):
                await self._check_log(name)

    async def _check_pages(self, name: str, user: str) -> None:
        view = self.model.view(user, name)
        covered: list[int] = []
        after = self.floor(name)
        for entry in await self.door.read_all_by_key(name, user, after):
            first = entry["first"] if entry["type"] == "hidden" else entry["position"]
            covered += range(first, entry["position"] + 1)
            due = view.get(entry["position"])
            assert (due is None) == (entry["type"] == "hidden"), entry
            if due is not None:
                check_entry(entry, due)
        assert covered == [position for position in view if position > after]

    async def _check_log(self, name: str) -> None:
        floor = self.floor(name)
        log = await self.door.read_all_by_key(name, None, floor)
        assert [entry["position"] for entry in log] == list(
            range(floor + 1, self.model.head(name) + 1)
        )
        for entry in log:
            check_entry(entry, self.model.logs[name][entry["position"] - 1])
            if is_message(entry) and name != BROADCAST:
                await self._check_ledger(name, entry)

    async def _check_ledger(self, name: str, entry: Json) -> None:
        """Everybody the message is for, and no claim beyond what a device was given."""
        position: int = entry["position"]
        page = await self.door.ledger(name, position, limit=1000)
        audience = self.model.audience(name, position) - {entry["from"]}
        assert {row.user for row in page.deliveries} == audience
        assert sum(page.counts.values()) == len(audience)
        passed: int = entry.get("recalled", position)
        for row in page.deliveries:
            self._check_row(name, row.user, str(row.state), passed)

    def _check_row(self, name: str, user: str, state: str, passed: int) -> None:
        given = self._given.get((user, name), 0)
        read = self.model.read.get((user, name), 0)
        if self.model.users[user] == "active":
            assert (state == "read") == (read >= passed), (user, state, read, passed)
            assert state != "unreachable"
        if state in ("delivered", "read"):
            assert given >= passed, f"{user} was never given {passed} in {name}"


def check_entry(entry: Json, due: Facts, *, may_have_content: bool = False) -> None:
    """An entry says what it must. `may_have_content`: it may be from before its recall."""
    assert entry["type"] == due["type"], (entry, due)
    if "text" in due:
        assert (entry.get("from"), entry.get("key")) == (due["sender"], due["key"])
        if "recalled" in due and not (may_have_content and "content" in entry):
            assert entry["recalled"] == due["recalled"]
            assert "content" not in entry
        else:
            assert text_of(entry) == due["text"]
        return
    for fact in _COMPARED:
        if fact in due:
            seen = sorted(entry[fact]) if fact == "users" else entry[fact]
            assert seen == due[fact], (entry, due)
