"""The contract of a registry: holds, confirmations, and the changing of policies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lifecycle_sync.errors import NotFoundError, UsageError
from lifecycle_sync.model.act import Intent
from lifecycle_sync.model.file import FileType
from lifecycle_sync.model.hold import Confirmation
from lifecycle_sync.model.policy import SHIPPED, LifecyclePolicy
from lifecycle_sync.testing.registry_contract_acts import ActContractBase
from lifecycle_sync.testing.registry_contract_base import House


class HoldContract(ActContractBase):
    """`HoldStore`."""

    def refused(self, house: House, path: bytes, *, unless_held: bool = True) -> str | None:
        """Why an act on a file would not begin."""
        act = house.registry.begin_act(house.root, "delete", house.now_ns)
        intent = Intent(house.ids.one(), house.record(path).file_id, "delete")
        refused = house.registry.begin_operations(
            act, [intent], house.now_ns, unless_held=unless_held
        )
        if not refused:
            self.finish(house, act, intent, "skipped")
        return refused.get(intent.operation_id)

    def test_a_hold_on_a_file_stops_acts_that_ask(self, house: House) -> None:
        house.settled(b"one", b"two")
        hold = self.hold(house, file_id=house.record(b"one").file_id)
        house.registry.add_hold(hold)
        house.reopen()
        assert self.refused(house, b"one") == "held: audit"
        assert self.refused(house, b"one", unless_held=False) is None
        assert self.refused(house, b"two") is None
        assert house.registry.holds() == [hold]

    @pytest.mark.parametrize(
        ("query", "held"),
        [
            ("/srv/files/a/one.txt", {b"a/one.txt"}),
            ("/srv/files/a", {b"a/one.txt", b"a/b/two.txt"}),
            ("/srv/files/a/", {b"a/one.txt", b"a/b/two.txt"}),
            ("/srv/files", {b"a/one.txt", b"a/b/two.txt", b"ab.txt", b"[c]/\xff.txt"}),
            ("*.txt", {b"a/one.txt", b"a/b/two.txt", b"ab.txt", b"[c]/\xff.txt"}),
            ("*/a/*/two.*", {b"a/b/two.txt"}),
            ("/srv/files/a[!x].txt", {b"ab.txt"}),
            ("/srv/files/[c]", {b"[c]/\xff.txt"}),
            ("/srv/files/[c]/\udcff.txt", {b"[c]/\xff.txt"}),
            ("/srv/files/[c]/\\xff.txt", {b"[c]/\xff.txt"}),
            ("/srv/other", set()),
            ("a/one.txt", set()),
        ],
    )
    def test_a_hold_by_query_is_on_what_it_names_at_that_time(
        self, house: House, query: str, held: set[bytes]
    ) -> None:
        # The hold comes first: it is no list of files.
        house.registry.add_hold(self.hold(house, query=query))
        paths = [b"a/one.txt", b"a/b/two.txt", b"ab.txt", b"[c]/\xff.txt"]
        house.settled(*paths)
        assert {path for path in paths if self.refused(house, path) == "held: audit"} == held
        ids = {house.record(path).file_id: path for path in paths}
        found = house.registry.held(list(ids), house.now_ns)
        assert {ids[file_id] for file_id in found} == held
        assert set(found.values()) <= {"audit"}
        for file_id, path in ids.items():
            assert bool(house.registry.holds(file_id)) is (path in held)

    def test_a_hold_ends_by_its_release_or_its_time(self, house: House) -> None:
        house.settled(b"one")
        file_id = house.record(b"one").file_id
        until = self.hold(house, query="/srv/files", ends_ns=house.now_ns + 10, reason="short")
        hold = self.hold(house, file_id=file_id)
        house.registry.add_hold(until)
        house.registry.add_hold(hold)
        assert [h.hold_id for h in house.registry.holds(file_id, house.now_ns)] == sorted(
            [until.hold_id, hold.hold_id]
        )
        house.tick()
        assert house.registry.holds(None, house.now_ns) == [hold]
        house.registry.release_hold(hold.hold_id, house.now_ns)
        released = replace(hold, released_ns=house.now_ns)
        house.tick()
        house.registry.release_hold(hold.hold_id, house.now_ns)
        assert house.registry.holds(file_id, house.now_ns) == []
        assert house.registry.holds(file_id) == [until, released]
        assert house.registry.held([file_id], house.now_ns) == {}
        assert self.refused(house, b"one") is None

    def test_a_hold_that_comes_between_plan_and_intent_stops_the_act(self, house: House) -> None:
        house.settled(b"one")
        act = house.registry.begin_act(house.root, "delete", house.tick())
        (file,) = house.registry.to_back_up(house.root, 0, 1)
        assert house.registry.held([file.file_id], house.now_ns) == {}
        house.registry.add_hold(self.hold(house, file_id=file.file_id))
        intent = Intent(house.ids.one(), file.file_id, "delete")
        refused = house.registry.begin_operations(act, [intent], house.now_ns, unless_held=True)
        assert refused == {intent.operation_id: "held: audit"}

    def test_holds_on_nothing_or_on_two_things_are_refused(self, house: House) -> None:
        house.settled(b"one")
        file_id = house.record(b"one").file_id
        for hold in (
            self.hold(house),
            self.hold(house, query=""),
            self.hold(house, file_id=file_id, query="/srv"),
        ):
            with pytest.raises(UsageError):
                house.registry.add_hold(hold)
        with pytest.raises(NotFoundError):
            house.registry.add_hold(self.hold(house, file_id=house.ids.one()))
        with pytest.raises(NotFoundError):
            house.registry.release_hold(house.ids.one(), house.now_ns)
        hold = self.hold(house, file_id=file_id)
        house.registry.add_hold(hold)
        with pytest.raises(UsageError, match="taken"):
            house.registry.add_hold(hold)
        assert house.registry.holds() == [hold]

    def test_confirmations_are_kept_newest_first(self, house: House) -> None:
        other = house.add_root(b"/srv/other")
        given = [
            Confirmation(house.root, "mass", "5 of 10", house.tick()),
            Confirmation(house.root, "shrink", "6 of 10", house.tick()),
            Confirmation(other, "mass", "7 of 10", house.tick()),
        ]
        for confirmation in [*given, given[0]]:
            house.registry.add_confirmation(confirmation)
        house.registry.remove_repository(house.root)
        house.reopen()
        assert house.registry.confirmations(house.root) == [given[1], given[0]]
        assert house.registry.confirmations(other) == [given[2]]


class PolicyContract(ActContractBase):
    """`PolicyStore`."""

    def test_a_policy_is_added_last_and_changed_in_its_place(self, house: House) -> None:
        contracts = LifecyclePolicy("contracts", [FileType.DOCUMENT], 1, 2, 3, 4, True, True)
        house.registry.put_policy(contracts, house.tick())
        house.reopen()
        assert house.registry.policies() == [*SHIPPED, contracts]
        media = replace(SHIPPED[2], max_versions=9)
        house.registry.put_policy(media, house.tick())
        assert house.registry.policies() == [SHIPPED[0], SHIPPED[1], media, SHIPPED[3], contracts]

    def test_files_of_a_policy_that_goes_go_by_their_type(self, house: House) -> None:
        contracts = LifecyclePolicy("contracts")
        house.registry.put_policy(contracts, house.tick())
        house.settled(b"plain.txt")
        house.write(b"one.txt", b"two.jpg")
        house.register(b"one.txt", "contracts")
        house.register(b"two.jpg", "archives")
        seq = house.registry.last_seq()
        house.registry.remove_policy("contracts", house.tick())
        house.reopen()
        assert house.registry.policies() == list(SHIPPED)
        assert [
            (house.record(path).policy_name, house.record(path).policy_explicit)
            for path in (b"one.txt", b"two.jpg", b"plain.txt")
        ] == [("documents", False), ("archives", True), ("documents", False)]
        assert house.changed_since(seq) == {b"one.txt"}
        # The choice was a person's, and counts when there is such a policy again.
        house.registry.put_policy(contracts, house.tick())
        record = house.record(b"one.txt")
        assert (record.policy_name, record.policy_explicit) == ("contracts", True)

    def test_what_files_go_by_cannot_be_removed(self, house: House) -> None:
        for policy in SHIPPED:
            with pytest.raises(UsageError):
                house.registry.remove_policy(policy.name, house.now_ns)
        with pytest.raises(NotFoundError):
            house.registry.remove_policy("no such", house.now_ns)
        with pytest.raises(UsageError):
            house.registry.put_policy(LifecyclePolicy(""), house.now_ns)
        assert house.registry.policies() == list(SHIPPED)
