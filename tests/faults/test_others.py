"""Others write, save and swap while an act is at work: what they did survives, and what lies
outside the root is never touched."""

from __future__ import annotations

import pytest

from tests.support.meddling import BESIDE, MEDDLERS
from tests.support.points import Case
from tests.support.workloads import SCANS, WORKLOADS

_ACTS = ["backup-first", "archive", "delete-kept", "undelete", "restore-replace", "recall", "purge"]

_WITH_VAULT = [
    *(("give-up", it) for it in ("back-up", "heal", "prune", "give-up")),
    *(("recipients-add", it) for it in ("back-up", "add-key", "edit")),
    ("recipients-remove", "edit"),
    ("rewrite", "back-up"),
]


@pytest.mark.faults
@pytest.mark.parametrize(("workload", "fault"), _WITH_VAULT)
def test_what_others_do_with_a_vault_meanwhile_stands(workload, fault, try_case):
    try_case(Case(WORKLOADS[workload], fault), sample=1)


@pytest.mark.faults
@pytest.mark.parametrize("fault", [it for it in MEDDLERS if it not in BESIDE])
@pytest.mark.parametrize("workload", _ACTS)
def test_what_others_do_meanwhile_survives(workload, fault, try_case):
    try_case(Case(WORKLOADS[workload], fault), sample=1)


@pytest.mark.faults
@pytest.mark.parametrize("workload", _ACTS)
def test_a_scan_in_the_middle_of_an_act_finds_nothing_vanished(workload, try_case):
    try_case(Case(WORKLOADS[workload], "scan"), sample=1)


@pytest.mark.faults
@pytest.mark.parametrize("fault", SCANS)
def test_an_act_in_the_middle_of_a_scan_leaves_nothing_to_vanish(fault, try_case):
    try_case(Case(SCANS[fault], fault), sample=1)
