"""The guards of the code, and for each the test that fails without it: see `guard_proof`."""

from __future__ import annotations

from scripts import guards_vault
from scripts.guard import Proof

_PACKAGE = "src/lifecycle_sync"
_GUARDS = f"{_PACKAGE}/decide/guards.py"
_PLANNING = f"{_PACKAGE}/decide/planning.py"
_APPLYING = f"{_PACKAGE}/service/applying.py"
_TEMP = f"{_PACKAGE}/service/temp"
_KEEPING = "tests/integration/test_temp_keeping.py"
_POLICIES = "tests/integration/test_policies.py"
_PROOF = "tests/integration/test_proof.py"

PROOFS = [
    Proof(
        "root",
        _GUARDS,
        '    if not present:\n        return Verdict(\n            "root",',
        '    if registry_id:\n        return Verdict("root", Outcome.PASS)\n'
        '    if not present:\n        return Verdict(\n            "root",',
        "tests/unit/test_guards.py",
    ),
    Proof(
        "root, at the moment of an act",
        f"{_PACKAGE}/service/order.py",
        "            repository = workshop.check_root(self._repository, act.verb)\n",
        "            repository = self._repository\n",
        "tests/integration/test_guards_at_use.py",
    ),
    Proof(
        "proof, when a plan is made",
        _PLANNING,
        "    if verb is Verb.DELETE and file.file_id in situation.unproven:\n",
        "    if verb is Verb.DELETE and not file.file_id:\n",
        f"{_PROOF}::test_a_file_goes_only_with_so_many_verified_copies",
    ),
    Proof(
        "proof, at the moment of use",
        _APPLYING,
        '    return engine.proof.against(file, task.policy) if verb is Verb.DELETE else ""\n',
        '    return ""\n',
        f"{_PROOF}::test_a_place_that_is_away_at_the_moment_of_use_proves_nothing",
    ),
    Proof(
        "proof, before an archived file's last other bytes go",
        f"{_PACKAGE}/act/purging.py",
        "            demanded = unproven(entry.file_id, key)\n",
        '            demanded = ""\n',
        f"{_PROOF}::test_what_was_archived_is_purged_only_with_proof",
    ),
    Proof(
        "an empty mount point is no copy",
        f"{_PACKAGE}/service/vault_copies.py",
        "    refuse_gone(path)\n    vault = engine.vaults.get(kind, create=False, to_read=True)\n"
        "    with opening.open_storage(path, engine.fs, create=False) as below:\n"
        "        if opening.read_format(below, path, kind, vault.store_id, write=True) is None:\n",
        "    vault = engine.vaults.get(kind, create=False, to_read=True)\n"
        "    with opening.open_storage(path, engine.fs, create=False) as below:\n"
        "        if not path:\n",
        "tests/acceptance/test_cli_drill.py",
    ),
    Proof(
        "listing",
        f"{_PACKAGE}/registry/sql/scan.sql",
        "UPDATE directories SET generation = :generation\n"
        "WHERE repository = :number AND path >= :low AND path < :high AND gone = 0;",
        "UPDATE directories SET generation = :generation\n"
        "WHERE repository = :number AND path >= :low AND path < :high AND gone = 9;",
        "tests/integration/test_scan_faults.py",
    ),
    Proof(
        "shrink",
        _GUARDS,
        "    if not too_many or lost <= accepted:\n",
        "    if known >= 0:\n",
        "tests/unit/test_guards.py",
    ),
    Proof(
        "mass",
        _GUARDS,
        "    if not planned or not too_many or total <= confirmed:\n",
        "    if known >= 0:\n",
        f"{_POLICIES}::test_many_deletions_wait_until_a_person_confirms_that_many",
    ),
    Proof(
        "young",
        _GUARDS,
        "    if newest > now_ns:\n",
        '    if newest:\n        return ""\n    if newest > now_ns:\n',
        "tests/unit/test_planning.py",
    ),
    Proof(
        "young, before a root was seen whole",
        _PLANNING,
        "    if not root.scanned:\n",
        "    if False:\n",
        "tests/unit/test_planning.py",
    ),
    Proof(
        "open for writing",
        _APPLYING,
        "        found = fs.has_writers(fd)\n",
        "        found = False\n",
        f"{_POLICIES}::test_what_somebody_writes_is_skipped",
    ),
    Proof(
        "clock",
        _GUARDS,
        "    if heartbeat_ns is None:\n",
        "    if now_ns:\n",
        f"{_POLICIES}::test_a_clock_that_was_set_keeps_everything_until_somebody_has_looked",
    ),
    Proof(
        "hold, in a plan",
        _PLANNING,
        "    if file.file_id in situation.held and destructive:\n",
        "    if False:\n",
        f"{_POLICIES}::test_a_hold_beats_a_policy",
    ),
    Proof(
        "hold, at the moment of an act",
        f"{_PACKAGE}/registry/sql/acts.sql",
        "WHERE NOT (act.unless_held AND EXISTS (\n",
        "WHERE NOT (0 AND EXISTS (\n",
        f"{_POLICIES}::test_a_hold_set_after_the_plan_stops_it",
    ),
    Proof(
        "pause, in a plan",
        _PLANNING,
        "    if situation.paused:\n",
        "    if False:\n",
        f"{_POLICIES}::test_a_pause_stops_what_takes_files_away_at_once",
    ),
    Proof(
        "pause, at the moment of an act",
        f"{_PACKAGE}/service/order.py",
        "        if paused is not None:\n",
        "        if False:\n",
        f"{_POLICIES}::test_a_pause_stops_what_takes_files_away_at_once",
    ),
    Proof(
        "advice",
        _PLANNING,
        "    if not root.enforce:\n",
        "    if False:\n",
        f"{_POLICIES}::test_a_root_that_only_advises_is_backed_up_and_nothing_else",
    ),
    Proof(
        "atime",
        _PLANNING,
        '    if policy.age_from == "accessed" and not root.atime:\n',
        "    if False:\n",
        "tests/unit/test_planning.py",
    ),
    Proof(
        "claimed, unstable, suspect",
        _PLANNING,
        "        if file.flags & flag:\n",
        "        if False:\n",
        "tests/unit/test_planning.py",
    ),
    Proof(
        "fingerprint, at the moment of a rename",
        f"{_PACKAGE}/act/taking.py",
        "                if differing:\n",
        "                if False:\n",
        _POLICIES,
    ),
    Proof(
        "zero versions",
        f"{_PACKAGE}/model/policy.py",
        "    if policy.max_versions == 0 and policy.keep == KeepRules() and not allow_empty:\n",
        "    if False:\n",
        "tests/acceptance/test_scheduler_face.py::"
        "test_a_policy_with_faults_and_names_that_are_not_known_are_errors",
    ),
    Proof(
        "empty source",
        f"{_PACKAGE}/service/host/service.py",
        "        if not known:\n            self._failed(\n",
        "        if False:\n            self._failed(\n",
        "tests/integration/test_host_cleanup.py",
    ),
    Proof(
        "late writer in the trash",
        f"{_PACKAGE}/act/trash.py",
        "            if fs.has_writers(fd):\n",
        "            if False:\n",
        "tests/integration/test_trash.py",
    ),
    Proof(
        "breaker",
        _APPLYING,
        "    if breaker.tripped:\n",
        "    if False:\n",
        "tests/integration/test_guards_at_use.py",
    ),
    Proof(
        "breaker, of a disk that fails",
        f"{_PACKAGE}/act/removal.py",
        "            elif outcome.alarm or outcome.failed:\n",
        "            elif outcome.alarm:\n",
        "tests/integration/test_guards_at_use.py",
    ),
    Proof(
        "breaker, within a batch",
        f"{_PACKAGE}/act/removal.py",
        "            if site.breaker.tripped:\n",
        "            if False:\n",
        "tests/integration/test_guards_at_use.py",
    ),
    Proof(
        "empty source, an application's table",
        f"{_PACKAGE}/service/host/service.py",
        "        return not known\n",
        "        return False\n",
        "tests/integration/test_host_cleanup.py",
    ),
    Proof(
        "empty source, jobs of which nobody tells",
        f"{_PACKAGE}/decide/orphans.py",
        "        return jobs.get(file.job_id, UNKNOWN_JOB)\n",
        "        return jobs.get(file.job_id, Job(JobState.ABSENT))\n",
        "tests/integration/test_temp_cleanup.py",
    ),
    Proof(
        "low space, a copy that was read",
        f"{_PACKAGE}/service/space.py",
        "        return sum(len(piece) for piece in vault.read(key)) == size\n",
        "        return True\n",
        "tests/integration/test_space.py",
    ),
    Proof(
        "zero versions",
        f"{_PACKAGE}/model/policy.py",
        "    if policy.max_versions == 0 and policy.keep == KeepRules() and not allow_empty:\n",
        "    if False:\n",
        "tests/unit/test_policies_random.py",
    ),
    Proof(
        "hold, on temporary files",
        f"{_TEMP}/sweep.py",
        "        if self._held is not None and self._held(os.path.join(self._base, file.path)):\n",
        "        if self._base is None:\n",
        _KEEPING,
    ),
    Proof(
        "hold, on temporary files, as of now",
        f"{_TEMP}/sweep.py",
        "                if refresh is not None:\n                    refresh()\n",
        "",
        f"{_KEEPING}::test_a_hold_that_comes_during_a_clean_up_holds_from_then_on",
    ),
    Proof(
        "a root below temporary files",
        f"{_TEMP}/sweep.py",
        "                    if folder and self._is_anothers(fd, folder):\n",
        "                    if folder is None:\n",
        f"{_KEEPING}::test_a_root_or_a_vault_below_a_temporary_folder_is_none_of_its_files",
    ),
    Proof(
        "clock, over temporary files",
        f"{_TEMP}/keeping.py",
        "        if doubt := self._doubt():\n",
        "        if (doubt := self._doubt()) is None:\n",
        f"{_KEEPING}::test_while_the_clock_is_in_doubt_no_file_counts_as_old",
    ),
    Proof(
        "under pressure no more than needed, by many workers",
        f"{_TEMP}/sweep.py",
        "self._discard_all(each(), tell, None, one_by_one=True)",
        "self._discard_all(each(), tell, None)",
        "tests/integration/test_temp_cleanup.py"
        "::test_many_workers_overshoot_by_at_most_a_file_each",
    ),
    Proof(
        "another file in the place of a declared one",
        f"{_PACKAGE}/decide/orphans.py",
        "    if (file.device, file.inode) == (known.device, known.inode):\n",
        "    if known.path:\n",
        "tests/integration/test_temp_jobs.py",
    ),
    Proof(
        "last copy of what was archived",
        f"{_PACKAGE}/act/purging.py",
        "if copies and file.state in _AWAY else",
        "if False else",
        "tests/integration/test_purge.py",
    ),
    Proof(
        "content of what was archived, in the trash",
        f"{_PACKAGE}/act/purging.py",
        "        return hasher.digest() == entry.checksum",
        "        return True",
        "tests/integration/test_purge.py",
    ),
    Proof(
        "hold on what was archived",
        f"{_PACKAGE}/act/removal.py",
        '    vault = site.vaults.archive()\n    ordered = intend(site, "delete", files,'
        " unless_held=True)",
        '    vault = site.vaults.archive()\n    ordered = intend(site, "delete", files,'
        " unless_held=False)",
        "tests/integration/test_guards_at_use.py",
    ),
    Proof(
        "hold, when a file gives way to a restore",
        f"{_PACKAGE}/act/returning.py",
        "            if record.file_id in held:",
        "            if False:",
        "tests/integration/test_restoring.py",
    ),
    Proof(
        "durable in the trash",
        f"{_PACKAGE}/act/removal.py",
        "        batch.sync()\n    return taken",
        "    return taken",
        "tests/integration/test_purge.py",
    ),
    Proof(
        "fingerprint, when a vault reads",
        f"{_PACKAGE}/act/reading.py",
        "        if differs(file, status,"
        " stable_inodes=self._site.repository.identity.stable_inodes):",
        "        if False:",
        "tests/integration/test_reading.py",
    ),
    Proof(
        "change while a vault reads",
        f"{_PACKAGE}/act/reading.py",
        "        if (\n            size != status.st_size",
        "        if False and (\n            size != status.st_size",
        "tests/integration/test_reading.py",
    ),
    Proof(
        "suspect, when a vault reads",
        f"{_PACKAGE}/act/keeping.py",
        "                    and not file.hash_due\n",
        "                    and False\n",
        "tests/integration/test_reading.py",
    ),
    Proof(
        "restored to a place of our own",
        f"{_PACKAGE}/act/restore.py",
        "        if parts[0] == PRIVATE_DIRECTORY:",
        "        if False:",
        "tests/integration/test_restoring.py",
    ),
    Proof(
        "restored bytes durable before their names",
        f"{_PACKAGE}/act/restore.py",
        "            self._sync_contents(made)\n            # Where",
        "            # Where",
        "tests/integration/test_restoring.py",
    ),
    Proof(
        "read back what was written to a vault",
        f"{_PACKAGE}/storage/local.py",
        "                if self._hash() != sha256:",
        "                if False:",
        "tests/integration/test_vault_faults.py",
    ),
    Proof(
        "clock, where roots are followed",
        f"{_PACKAGE}/service/following.py",
        "        engine.clock_doubt.heartbeat()\n",
        "",
        "tests/torture/test_bad_ground.py::test_the_clock_steps_a_year_ahead_and_back",
    ),
    Proof(
        "young, for conflicts",
        f"{_PACKAGE}/service/conflicts.py",
        "        if young:\n            return young\n",
        "",
        "tests/integration/test_conflicts.py::test_what_is_too_young_is_not_taken_for_the_registry",
    ),
    Proof(
        "advice, for conflicts",
        f"{_PACKAGE}/service/conflicts.py",
        "        if verb in barred:\n            return barred[verb]\n",
        "",
        "tests/integration/test_conflicts.py::test_a_root_that_only_advises_keeps_what_it_has",
    ),
    Proof(
        "what was there after all is looked at again",
        f"{_PACKAGE}/service/settling.py",
        "        settled.again |= judged.present_folders\n",
        "",
        "tests/integration/test_reconciliation.py"
        "::test_what_was_there_after_all_is_looked_at_once_more",
    ),
    Proof(
        "moved out of a part of a root",
        f"{_PACKAGE}/service/settling.py",
        "                look.settled.elsewhere = True\n                return look.settled\n",
        "",
        "tests/integration/test_reconciliation.py"
        "::test_what_has_gone_from_a_folder_keeps_its_id_where_it_went",
    ),
    Proof(
        "a resumed hash is of the same file",
        f"{_PACKAGE}/observe/checkpoints.py",
        "            return None\n        return (position,",
        "            pass\n        return (position,",
        "tests/integration/test_large_files.py",
    ),
    Proof(
        "what came and went unseen",
        f"{_PACKAGE}/service/following.py",
        "        if taken.unseen:\n",
        "        if False:\n",
        "tests/torture/test_watcher_unseen.py::test_a_name_that_nobody_saw_leaves_the_others_right",
    ),
    Proof(
        "what moved is hashed",
        f"{_PACKAGE}/service/settling.py",
        "        settled.due = settled.due or judged.moved > 0\n",
        "",
        "tests/integration/test_reconciliation.py"
        "::test_what_moved_is_due_though_the_look_that_finds_out_adds_nothing",
    ),
    Proof(
        "no watch is placed in itself",
        f"{_PACKAGE}/observe/watch_tree.py",
        "            if self.is_above(wd, parent):\n",
        "            if False:\n",
        "tests/unit/test_watch_tree.py::test_nothing_is_placed_in_itself",
    ),
    Proof(
        "what contradicts itself is watched anew",
        f"{_PACKAGE}/observe/watcher.py",
        "        if state.in_doubt:\n",
        "        if False:\n",
        "tests/integration/test_watcher_polls.py"
        "::test_where_directories_contradict_each_other_all_is_watched_anew",
    ),
    Proof(
        "polls leave time to all else",
        f"{_PACKAGE}/observe/watcher.py",
        "        rest = min(_POLL_REST * took, _POLL_REST_SECONDS)\n",
        "        rest = 0.0\n",
        "tests/integration/test_watcher_polls.py::test_between_polls_is_more_time_than_they_take",
    ),
    *guards_vault.PROOFS,
]
