"""What is applied is in the plan, whatever happens to the files meanwhile."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import pytest

from lifecycle_sync.model.operation import Operation
from tests.integration.test_policies import Estate, backed_up, years_later

SEEDS = int(os.environ.get("PLAN_SEEDS", "3"))


def journal(estate: Estate) -> list[Operation]:
    return list(estate.engine.registry.journal(None, 1_000))


def meddle(root: Path, names: list[str], chance: random.Random, saved: dict[str, bytes]) -> None:
    """Somebody works in the folder; `saved` are the files that were replaced."""
    for name in chance.sample(names, len(names) // 2):
        path, content = root / name, b"mine %d " % chance.randrange(10**9) + name.encode()
        try:
            match chance.randrange(4):
                case 0:
                    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
                    os.write(fd, content)
                    os.close(fd)
                case 1:
                    (root / f"{name}.new").write_bytes(content)
                    os.rename(root / f"{name}.new", path)
                    saved[name] = content
                case 2:
                    os.rename(path, root / f"moved-{name}")
                case 3:
                    os.utime(path)
        except FileNotFoundError:
            continue


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_is_applied_is_in_the_plan_while_somebody_works_there(tmp_path: Path, seed: int):
    chance = random.Random(seed)
    estate = Estate(tmp_path)
    names = [f"{n:02}.{chance.choice(('txt', 'jpg', 'zip'))}" for n in range(20)]
    for name in names:
        estate.file(name)
    estate.ready()
    if chance.random() < 0.5:
        backed_up(estate)
    years_later(estate)
    plan = estate.plan()
    allowed = {(it.file_id, it.verb.value) for it in plan.actions if not it.guard}
    before = {it.operation_id for it in journal(estate)}
    saved: dict[str, bytes] = {}
    somebody = threading.Thread(target=meddle, args=(estate.root, names, chance, saved))
    somebody.start()
    estate.apply(plan)
    somebody.join()
    done = {
        (it.file_id, it.operation_type)
        for it in journal(estate)
        if it.operation_id not in before and it.status == "completed"
    }
    assert done <= allowed
    # What took the place of a file was in no plan.
    for name, content in saved.items():
        assert (estate.root / name).read_bytes() == content
    estate.engine.close()
