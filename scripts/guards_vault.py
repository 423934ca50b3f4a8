"""The guards of a vault and of pruning, and for each the test that fails without it."""

from __future__ import annotations

from scripts.guard import Proof

_PACKAGE = "src/lifecycle_sync"
_ENCRYPTION = "tests/acceptance/test_cli_encryption.py"
_ENCRYPTED = "tests/integration/test_vault_encrypted.py"
_PRUNING = "tests/integration/test_pruning.py"
_PLACES = "tests/integration/test_several_places.py"
_GONE = "tests/integration/test_vault_gone.py"

PROOFS = [
    Proof(
        "what heals is compared",
        f"{_PACKAGE}/vault/healing.py",
        "        if key_of(key.algorithm, start).digest != key.digest:\n            return False\n",
        "",
        "tests/integration/test_healing.py",
    ),
    Proof(
        "a copy that is damaged gives nothing",
        f"{_PACKAGE}/vault/healing.py",
        "            return digest.digest() == sha256\n",
        "            return True\n",
        "tests/integration/test_healing.py",
    ),
    Proof(
        "hold, when whole pages of versions go",
        f"{_PACKAGE}/registry/sql/marked.sql",
        "    EXISTS (SELECT 1 FROM holds WHERE released_ns IS NULL) AND EXISTS (\n",
        "    0 AND EXISTS (\n",
        f"{_PRUNING}::test_what_is_held_when_it_is_to_go_stays_however_many",
    ),
    Proof(
        "zero versions, when whole pages of versions go",
        f"{_PACKAGE}/service/pruning.py",
        "    kinds = [it for it in kinds if it.kept or pruning.allow_empty]\n",
        "    kinds = list(kinds)\n",
        f"{_PRUNING}::test_the_last_version_goes_only_when_that_is_meant",
    ),
    Proof(
        "advice, when whole pages of versions go",
        f"{_PACKAGE}/service/pruning.py",
        "    free = set(roots) - _advising(engine, pruning)\n",
        "    free = set(roots)\n",
        f"{_PRUNING}::test_the_loop_prunes_what_is_due_and_leaves_roots_that_only_advise",
    ),
    Proof(
        "a registry that went back asks for the key",
        f"{_PACKAGE}/service/vaults.py",
        "        if forgotten and forgotten not in applied:\n",
        "        if not forgotten and forgotten in applied:\n",
        f"{_ENCRYPTION}::test_a_registry_that_went_back_in_time_does_nothing_before_it_was_told",
    ),
    Proof(
        "plain and encrypted are not mixed",
        f"{_PACKAGE}/vault/opening.py",
        "        if recipients is not None and write:\n",
        "        if recipients is not None and not path:\n",
        f"{_ENCRYPTION}::test_a_plain_vault_is_not_encrypted_by_a_setting_alone",
    ),
    Proof(
        "a damaged FORMAT makes no plain vault",
        f"{_PACKAGE}/vault/format.py",
        "    if line.min_reader >= ENCRYPTED_FORMAT and not encryption:\n",
        "    if line.min_reader < 0:\n",
        f"{_ENCRYPTED}::test_a_damaged_format_does_not_make_a_plain_vault_of_an_encrypted_one",
    ),
    Proof(
        "who tells something knows it",
        f"{_PACKAGE}/vault/sealing.py",
        "            self._keeping.publish(name)\n",
        "            self._keeping.discard()\n",
        f"{_ENCRYPTED}::test_without_a_key_the_writer_knows_what_it_has_stored",
    ),
    Proof(
        "no condemnation is missed without a key",
        f"{_PACKAGE}/vault/sealing.py",
        "    kept.look()\n",
        "",
        f"{_ENCRYPTED}::test_what_another_process_condemns_is_known_without_a_key",
    ),
    Proof(
        "a wrong key is told from damage",
        f"{_PACKAGE}/vault/sealing.py",
        "            if hashlib.sha256(sealed).hexdigest() in name:\n",
        "            if name:\n",
        f"{_ENCRYPTED}::test_damage_is_told_from_a_wrong_key",
    ),
    Proof(
        "a rebuild asks for the key first",
        f"{_PACKAGE}/service/learning.py",
        "                if vault.catalogue.locked:\n",
        "                if vault.catalogue.damaged:\n",
        f"{_ENCRYPTION}::test_a_rebuild_asks_for_the_key_before_it_does_anything",
    ),
    Proof(
        "a frame passes into a checkpoint only where all that it names is there",
        f"{_PACKAGE}/vault/compaction.py",
        "            if (stays is True and True not in gone) or (",
        "            if (stays is True) or (",
        "tests/unit/vault/test_passing.py",
    ),
    Proof(
        "what is needed of what is condemned is copied out",
        f"{_PACKAGE}/vault/index_live.py",
        "            if not connection.execute(_IS_ANY_CONDEMNED).get:\n",
        "            if connection.execute(_IS_ANY_CONDEMNED).get is not None:\n",
        "tests/integration/test_vault_prune.py",
    ),
    Proof(
        "what a vault cannot give comes from a copy",
        f"{_PACKAGE}/act/restore.py",
        "            made = self._make_of_copy(wanted, key)\n",
        "            made = None\n",
        "tests/acceptance/test_cli_from_copies.py",
    ),
    Proof(
        "what lies elsewhere is read there before a place of it goes",
        f"{_PACKAGE}/vault/prune.py",
        "        for blobs in chain(self._needed.live.in_condemned(), elsewhere):\n",
        "        for blobs in self._needed.live.in_condemned():\n",
        f"{_PLACES}::test_what_is_condemned_is_not_deleted_while_it_alone_is_whole",
    ),
    Proof(
        "what is looked for elsewhere, and not whole there, is not set aside",
        f"{_PACKAGE}/vault/healing.py",
        "        beside = map(key_of_blob, self._vault.index.blobs_beside(_sha256(name)))\n",
        "        beside: list[ContentKey] = []\n",
        f"{_PLACES}::test_what_is_looked_for_elsewhere_is_not_set_aside_while_it_is_not_whole_there",
    ),
    Proof(
        "what verify finds damaged is looked for elsewhere",
        f"{_PACKAGE}/vault/verify.py",
        "            if look.probe.is_whole(key, counts) or look.probe.turn(key):\n",
        "            if look.probe.is_whole(key, counts):\n",
        f"{_PLACES}::test_what_verify_finds_damaged_counts_where_it_is_whole",
    ),
    Proof(
        "what is damaged is read elsewhere",
        f"{_PACKAGE}/vault/contents.py",
        "            for other in self._beside(key):\n                with suppress",
        "            for other in ():\n                with suppress",
        f"{_PLACES}::test_a_content_is_read_where_it_is_whole",
    ),
    Proof(
        "what is condemned and looked for is verified",
        f"{_PACKAGE}/vault/verify_stored.py",
        "for it in index.holding(list(condemned))",
        "for it in index.holding([])",
        f"{_PLACES}::test_what_waits_to_be_deleted_and_is_needed_is_verified_and_healed",
    ),
    Proof(
        "what is condemned, needed and taken away is missed",
        f"{_PACKAGE}/vault/verify_manifests.py",
        "    asks = look.contents or bool(look.gone)\n",
        "    asks = look.contents\n",
        f"{_GONE}::test_what_is_needed_and_taken_away_is_missed_by_a_look_at_the_structure",
    ),
    Proof(
        "what comes back while it is looked for is asked for again",
        f"{_PACKAGE}/vault/verify_manifests.py",
        "look.gone.isdisjoint(names) and ",
        "",
        f"{_GONE}::test_what_comes_back_while_it_is_looked_for_is_relied_on_no_more_than_before",
    ),
    Proof(
        "checkpoints that did not know of each other say a line once",
        f"{_PACKAGE}/vault/catalogue.py",
        " or it.covers <= said",
        "",
        "tests/integration/test_vault_prune.py"
        "::test_two_checkpoints_that_did_not_know_of_each_other_say_each_line_once",
    ),
    Proof(
        "what was counted before others pruned is not remembered",
        f"{_PACKAGE}/vault/index_checks.py",
        " AND ?3 = (SELECT claims FROM store)",
        "",
        "tests/integration/test_vault_prune.py"
        "::test_what_a_verify_counted_before_others_pruned_does_not_stay",
    ),
    Proof(
        "a checkpoint says where lay what is needed and may come back",
        f"{_PACKAGE}/vault/compaction.py",
        "        if sha256 in self._awaited:\n",
        "        if False:\n",
        f"{_GONE}::test_a_prune_remembers_where_lay_what_is_needed_and_may_come_back",
    ),
    Proof(
        "a decrypted pack in memory says nothing of the disk",
        f"{_PACKAGE}/vault/sealing.py",
        "        self.opened.drop(name)\n        self._below.drop_cache(stored_name(name))\n",
        "        self._below.drop_cache(stored_name(name))\n",
        f"{_PLACES}::test_what_verify_finds_damaged_counts_where_it_is_whole",
    ),
    Proof(
        "a checkpoint counts as older than what it does not know",
        f"{_PACKAGE}/vault/catalogue.py",
        "key=lambda it: (not readers[it].header.checkpoint, it)",
        "key=str",
        f"{_PLACES}::test_a_checkpoint_of_one_who_did_not_know_what_is_newer_counts_as_older",
    ),
]
