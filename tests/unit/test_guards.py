"""The guards, as a matrix of what they are told."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest

from lifecycle_sync.decide import guards
from lifecycle_sync.decide.guards import Outcome
from lifecycle_sync.model.repository import Marker, Repository, RootIdentity

_ROOT_ID, _REGISTRY_ID = b"r" * 16, b"g" * 16
_IDENTITY = RootIdentity("ext4", "fsid:1", 2, True, False)
_OURS = Marker(_ROOT_ID, _REGISTRY_ID)


def _repository(**changes: object) -> Repository:
    known = Repository(_ROOT_ID, b"/srv/files", identity=_IDENTITY)
    return known.evolve(**changes)


def _root(
    *,
    present: bool = True,
    marker: Marker | None = _OURS,
    identity: RootIdentity = _IDENTITY,
    **changes: object,
) -> guards.Verdict:
    return guards.root(
        _repository(**changes),
        present=present,
        marker=marker,
        identity=identity,
        registry_id=_REGISTRY_ID,
    )


# -- shrink ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "known", "held"),
    [
        # over 20 % and over 100 files
        (200, 1000, False),
        (201, 1000, True),
        (100, 499, False),
        (101, 504, True),
        (101, 505, False),
        # over half and over 20 files
        (20, 39, False),
        (21, 42, False),
        (21, 41, True),
        # all of 20 and more
        (19, 19, False),
        (20, 20, True),
        (20, 21, False),
        # a few
        (0, 0, False),
        (1, 1, False),
        (0, 1_000_000, False),
        (1_000_000, 1_000_000, True),
    ],
)
def test_shrink_holds_beyond_its_limits_and_not_at_them(lost: int, known: int, held: bool):
    verdict = guards.shrink(lost, known)
    assert verdict.passed is not held
    assert verdict.outcome is (Outcome.HELD if held else Outcome.PASS)


def test_shrink_is_exact_for_every_number_of_files():
    for known in range(3_000):
        fifth, half = Fraction(known, 5), Fraction(known, 2)
        borders = {0, 19, 20, 21, 100, 101, known // 5, known // 5 + 1, known // 2, known // 2 + 1}
        for lost in {*borders, known - 1, known}:
            if not 0 <= lost <= known:
                continue
            held = (
                (lost > fifth and lost > 100)
                or (lost > half and lost > 20)
                or (lost == known and known >= 20)
            )
            assert guards.shrink(lost, known).passed is not held, (lost, known)


def test_more_losses_never_pass_where_fewer_were_held():
    for known in (20, 40, 41, 99, 500, 505, 1_000):
        held = [not guards.shrink(lost, known).passed for lost in range(known + 1)]
        assert held == sorted(held), known


@pytest.mark.parametrize(
    ("accepted", "passes"), [(0, False), (499, False), (500, True), (501, True)]
)
def test_shrink_passes_what_a_person_accepted_and_no_more(accepted: int, passes: bool):
    assert guards.shrink(500, 1_000, accepted).passed is passes


def test_shrink_shows_its_evidence_and_what_to_do():
    verdict = guards.shrink(1_500, 2_000)
    assert verdict.guard == "shrink"
    assert "1,500 of 2,000" in verdict.reason and "75 %" in verdict.reason
    assert "lifecycle accept" in verdict.remedy


# -- root ------------------------------------------------------------------------------------


def test_a_root_as_it_was_passes():
    assert _root() == guards.Verdict("root", Outcome.PASS)


def test_a_folder_that_is_not_there_is_offline_whatever_else():
    for marker, identity in itertools.product((None, _OURS), (_IDENTITY, RootIdentity())):
        verdict = _root(present=False, marker=marker, identity=identity)
        assert verdict.outcome is Outcome.OFFLINE and verdict.remedy


@pytest.mark.parametrize(
    ("marker", "outcome", "word"),
    [
        (None, Outcome.OFFLINE, "unmounted"),
        (Marker(b"x" * 16, _REGISTRY_ID), Outcome.HELD, "another root"),
        (Marker(_ROOT_ID, b"x" * 16), Outcome.HELD, "another registry"),
        (Marker(b"x" * 16, b"x" * 16), Outcome.HELD, "another root"),
    ],
)
def test_a_marker_that_is_not_this_roots_stops_it(marker, outcome, word):
    verdict = _root(marker=marker)
    assert (verdict.guard, verdict.outcome) == ("root", outcome)
    assert word in verdict.reason and verdict.remedy
    # A root that keeps its marker in the registry has none inside.
    assert _root(marker=marker, marker_in_root=False).passed


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (RootIdentity("xfs", "fsid:1", 2), "filesystem type"),
        (RootIdentity("ext4", "fsid:9", 2), "filesystem"),
        (RootIdentity("ext4", "fsid:1", 9), "inode"),
    ],
)
@pytest.mark.parametrize("marker_in_root", [True, False])
def test_a_right_marker_in_another_place_is_held(found, word, marker_in_root):
    verdict = _root(identity=found, marker_in_root=marker_in_root)
    assert verdict.outcome is Outcome.HELD
    assert word in verdict.reason and "lifecycle accept" in verdict.remedy


@pytest.mark.parametrize(
    ("known", "found"),
    [
        (RootIdentity(), _IDENTITY),  # nothing was known
        (RootIdentity("ext4", "", 2), _IDENTITY),
        (_IDENTITY, RootIdentity("ext4", "", 2)),
        (RootIdentity("ext4", "uuid:1", 2), RootIdentity("ext4", "fsid:2", 2)),
        (RootIdentity("fuse", "", 2, False), RootIdentity("fuse", "", 9, False)),
    ],
)
def test_what_is_not_known_on_both_sides_is_not_compared(known, found):
    verdict = guards.root(
        _repository(identity=known),
        present=True,
        marker=_OURS,
        identity=found,
        registry_id=_REGISTRY_ID,
    )
    assert verdict.passed
