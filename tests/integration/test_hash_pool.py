from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

import blake3
import pytest

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import CancelledError, LifecycleError, OfflineError, UsageError
from lifecycle_sync.model.record import HashResult, HashTask
from lifecycle_sync.observe.hash_pool import HashPool
from lifecycle_sync.observe.hash_worker import frame

MARGIN_NS = 20_000_000
HUGE_BYTES = 100 << 30  # of a sparse file: a minute of hashing at least
DEADLINE_SECONDS = 10


def wait_until(holds) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie (whose new parent may leave it one)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def make_sparse(path, size: int = HUGE_BYTES) -> None:
    with open(path, "wb") as file:
        file.truncate(size)


def tasks_of(root) -> list[HashTask]:
    tasks: list[HashTask] = []
    for directory, _, names in os.walk(os.fsencode(root)):
        relative = os.path.relpath(directory, os.fsencode(root))
        for name in names:
            s = os.lstat(directory + b"/" + name)
            where = b"" if relative == b"." else relative
            times = (s.st_mtime_ns, s.st_ctime_ns)
            tasks.append(HashTask(len(tasks), where, name, s.st_size, *times, s.st_ino))
    return tasks


def run(pool: HashPool, root, tasks, **options) -> list[HashResult]:
    options = {"cancel": CancelToken()} | options
    return list(itertools.chain(*pool.hash(os.fsencode(root), tasks, **options)))


def pool_of(workers: int = 2, **options) -> HashPool:
    return HashPool(workers, margin_ns=MARGIN_NS, **options)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """3,000 small files in 61 directories, with names that are no text, and a large file."""
    root = tmp_path_factory.mktemp("tree")
    for number in range(60):
        directory = os.fsencode(root) + b"/%d \xff\n/deep" % (number % 6) + b"/%d" % number
        os.makedirs(directory)
        for file in range(50):
            with open(directory + b"/%d \xfe\n\xc3\xa9" % file, "wb") as f:
                f.write(b"%d/%d" % (number, file) * file)
    with open(root / "large", "wb") as f:
        f.write(os.urandom(40 << 20))
    return root


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A root and tasks, enough for several batches, none of which is there: the cheapest work."""
    tasks = [HashTask(number, b"", b"%d" % number, 0, 0, 0, 0) for number in range(5000)]
    return tmp_path_factory.mktemp("empty"), tasks


# -- what comes back -----------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_task_has_the_result_that_hashing_it_alone_would_give(tree, workers, algorithm):
    tasks = tasks_of(tree)
    read: list[int] = []
    with pool_of(workers, algorithm=algorithm) as pool:
        results = run(pool, tree, iter(tasks), on_bytes=read.append)
        assert len(pool.process_ids) == workers
    new = hashlib.sha256 if algorithm == "sha256" else blake3.blake3
    expected = {}
    for row_id, directory, name, *observed in tasks:
        path = os.path.join(os.fsencode(tree), directory, name)
        with open(path, "rb") as file:
            expected[row_id] = ("ok", new(file.read()).digest(), *observed)
    assert {result.row_id: result[1:7] for result in results} == expected
    assert len(results) == len(tasks)
    assert sum(read) == sum(task.size for task in tasks)


def test_few_files_are_hashed_without_starting_a_process(tmp_path):
    for number in range(100):
        (tmp_path / str(number)).write_bytes(b"bytes")
    with pool_of() as pool:
        results = run(pool, tmp_path, tasks_of(tmp_path))
        assert pool.process_ids == []
    assert [result.status for result in results] == ["ok"] * 100


def test_only_as_many_workers_start_as_there_are_batches(tmp_path):
    make_sparse(tmp_path / "f", 20 << 20)
    with pool_of(8) as pool:
        run(pool, tmp_path, tasks_of(tmp_path))
        assert len(pool.process_ids) == 1


def test_nothing_to_hash_gives_no_results(tmp_path):
    with pool_of() as pool:
        assert run(pool, tmp_path, []) == []


def test_the_same_workers_serve_the_next_call(many):
    with pool_of() as pool:
        run(pool, *many)
        first = pool.process_ids
        assert len(first) == 2
        run(pool, *many)
        assert pool.process_ids == first


def test_tasks_are_read_only_as_far_as_the_workers_need_them(many):
    root, _ = many
    taken = 0

    def tasks() -> Iterator[HashTask]:
        nonlocal taken
        for taken in range(200_000):
            yield HashTask(taken, b"", b"%d" % taken, 0, 0, 0, 0)

    with pool_of() as pool:
        results = pool.hash(os.fsencode(root), tasks(), cancel=CancelToken())
        next(results)
        assert taken < 60_000
        results.close()


def test_what_a_worker_cannot_read_has_its_status(many, tmp_path):
    _, tasks = many
    (tmp_path / "1").mkdir()
    os.mkfifo(tmp_path / "2")
    (tmp_path / "3").symlink_to("/etc/passwd")
    (tmp_path / "4").write_bytes(b"file")
    with pool_of() as pool:
        results = {result.row_id: result.status for result in run(pool, tmp_path, tasks)}
    assert [results[number] for number in range(6)] == [
        "vanished",
        "not_regular",
        "not_regular",
        "not_regular",
        "ok",
        "vanished",
    ]


def test_a_directory_swapped_for_a_symlink_yields_nothing_from_outside(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    for place in (root / "a", outside):
        place.mkdir(parents=True)
        for number in range(1500):
            (place / str(number)).touch()
    tasks = tasks_of(root)
    shutil.rmtree(root / "a")
    (root / "a").symlink_to(outside)
    with pool_of() as pool:
        results = run(pool, root, tasks)
        assert pool.process_ids != []
    assert Counter(result.status for result in results) == {"vanished": 1500}


@pytest.mark.parametrize("count", [10, 5000])
def test_a_root_that_is_not_there_is_offline_and_no_file_is_judged(many, tmp_path, count):
    _, tasks = many
    gone = os.fsencode(tmp_path / "gone")
    with pool_of() as pool:
        results = pool.hash(gone, tasks[:count], cancel=CancelToken())
        with pytest.raises(OfflineError, match="No such file or directory"):
            next(results)


def test_what_the_source_of_tasks_raises_reaches_the_caller_and_the_pool_goes_on(many):
    root, tasks = many

    def broken() -> Iterator[HashTask]:
        yield from tasks
        raise LookupError("no more rows")

    with pool_of() as pool:
        with pytest.raises(LookupError):
            run(pool, root, broken())
        assert len(run(pool, root, tasks)) == len(tasks)


def test_an_algorithm_that_cannot_be_had_is_refused_at_once():
    with pytest.raises(UsageError):
        pool_of(algorithm="crc32")


def test_a_second_hash_while_one_runs_is_refused(many):
    root, tasks = many
    with pool_of() as pool:
        first = pool.hash(os.fsencode(root), tasks, cancel=CancelToken())
        next(first)
        with pytest.raises(RuntimeError):
            run(pool, root, tasks)
        first.close()
        assert len(run(pool, root, tasks)) == len(tasks)


# -- workers that die ----------------------------------------------------------------------------


def test_a_worker_killed_in_the_middle_is_replaced_and_no_file_is_lost(tree):
    tasks = tasks_of(tree)
    with pool_of() as pool:
        results = pool.hash(os.fsencode(tree), tasks, cancel=CancelToken())
        hashed = [*next(results)]
        victim, survivor = pool.process_ids
        os.kill(victim, signal.SIGKILL)
        for some in results:
            hashed += some
        assert survivor in pool.process_ids
        assert victim not in pool.process_ids
    assert sorted(result.row_id for result in hashed) == list(range(len(tasks)))
    assert {result.status for result in hashed} == {"ok"}


def test_a_worker_killed_between_two_calls_is_replaced(many):
    with pool_of() as pool:
        run(pool, *many)
        victim = pool.process_ids[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: not is_running(victim))
        results = run(pool, *many)
        assert victim not in pool.process_ids
    assert Counter(result.status for result in results) == {"vanished": 5000}


def test_a_file_that_kills_two_workers_is_unreadable_and_the_others_are_hashed(tmp_path):
    make_sparse(tmp_path / "deadly")
    for number in range(1200):
        (tmp_path / str(number)).write_bytes(b"bytes")
    tasks = tasks_of(tmp_path)
    with pool_of(1) as pool:
        results, killed = run_and_kill_at_large_file(pool, tmp_path, tasks)
    assert killed == 2
    bad = [result for result in results if result.status != "ok"]
    deadly = next(task.row_id for task in tasks if task.name == b"deadly")
    assert bad == [HashResult(deadly, "unreadable", error="hash worker: killed by SIGKILL")]
    assert sorted(result.row_id for result in results) == list(range(len(tasks)))


def test_a_batch_with_a_deadly_file_is_tried_again_file_by_file(tmp_path):
    for number in range(1200):
        (tmp_path / f"{number:04}").write_bytes(b"bytes")
    tasks = sorted(tasks_of(tmp_path), key=lambda task: task.name)
    # By its size in the registry it is small, so it shares a batch with others.
    make_sparse(tmp_path / "0700")
    with pool_of(1) as pool:
        results, killed = run_and_kill_at_large_file(pool, tmp_path, tasks)
    assert killed == 2
    bad = [result.row_id for result in results if result.status != "ok"]
    assert bad == [task.row_id for task in tasks if task.name == b"0700"]
    assert sorted(result.row_id for result in results) == list(range(1200))


def run_and_kill_at_large_file(pool, root, tasks) -> tuple[list[HashResult], int]:
    """Results, where each worker is killed that tells of bytes which only a large file has."""
    killed: set[int] = set()

    def on_bytes(count: int) -> None:
        if count >= 1 << 20:
            killed.update(pool.process_ids)
            os.kill(pool.process_ids[0], signal.SIGKILL)

    return run(pool, root, tasks, on_bytes=on_bytes), len(killed)


def test_workers_that_keep_dying_end_the_work_with_an_error(tmp_path):
    for number in range(50):
        make_sparse(tmp_path / str(number))
    with pool_of() as pool:

        def kill_all(_count: int) -> None:
            for pid in pool.process_ids:
                os.kill(pid, signal.SIGKILL)

        with pytest.raises(LifecycleError, match="keep dying: killed by SIGKILL"):
            run(pool, tmp_path, tasks_of(tmp_path), on_bytes=kill_all)


@pytest.mark.parametrize("program", [shutil.which("false"), "/no/such/python", ""])
def test_where_no_worker_can_be_started_files_are_hashed_in_this_process(
    tree, monkeypatch, caplog, program
):
    monkeypatch.setattr(sys, "executable", program)
    tasks = tasks_of(tree)
    with pool_of() as pool:
        results = run(pool, tree, tasks)
        assert pool.process_ids == []
    assert sorted(result.row_id for result in results) == list(range(len(tasks)))
    assert {result.status for result in results} == {"ok"}
    if program:
        assert "cannot start hash workers" in caplog.text


def test_a_worker_leaves_stopping_to_its_parent(many):
    with pool_of() as pool:
        run(pool, *many)
        workers = pool.process_ids
        assert all(os.getsid(pid) != os.getsid(0) for pid in workers)
        for pid in workers:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(pid, number)
        run(pool, *many)
        assert pool.process_ids == workers


# -- stopping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["huge", "0"])
def test_a_cancellation_in_the_middle_of_a_huge_file_takes_effect_at_once(tmp_path, name):
    for number in range(1100):
        (tmp_path / str(number)).touch()
    tasks = tasks_of(tmp_path)
    make_sparse(tmp_path / name)
    if name == "huge":
        tasks.append(HashTask(5000, b"", b"huge", HUGE_BYTES, 0, 0, 0))
    cancel, reading = CancelToken(), threading.Event()
    cancelled_at = 0.0

    def cancel_when_reading() -> None:
        nonlocal cancelled_at
        reading.wait(DEADLINE_SECONDS)
        cancelled_at = time.monotonic()
        cancel.cancel()

    thread = threading.Thread(target=cancel_when_reading)
    thread.start()
    with pool_of() as pool:
        workers: list[int] = []

        def on_bytes(_count: int) -> None:
            workers[:] = pool.process_ids
            reading.set()

        with pytest.raises(CancelledError):
            run(pool, tmp_path, tasks, cancel=cancel, on_bytes=on_bytes)
        assert time.monotonic() - cancelled_at < 2
        assert workers
        wait_until(lambda: sum(map(is_running, workers)) <= 1)
        (tmp_path / name).unlink()
        assert len(run(pool, tmp_path, tasks)) == len(tasks)
    thread.join()


def test_a_token_that_is_set_already_stops_before_anything_is_hashed(many):
    cancel = CancelToken()
    cancel.cancel()
    root, tasks = many
    for count in (10, 5000):
        with pool_of() as pool, pytest.raises(CancelledError):
            run(pool, root, tasks[:count], cancel=cancel)


def test_results_that_nobody_reads_on_end_the_workers_that_were_at_them(tmp_path, many):
    _, tasks = many
    make_sparse(tmp_path / "huge")
    huge = HashTask(9999, b"", b"huge", HUGE_BYTES, 0, 0, 0)
    with pool_of() as pool:
        results = pool.hash(os.fsencode(tmp_path), [huge, *tasks], cancel=CancelToken())
        next(results)
        results.close()
        assert len(pool.process_ids) <= 1
        assert len(run(pool, tmp_path, tasks)) == len(tasks)


def test_closing_the_pool_ends_its_workers(many):
    with pool_of() as pool:
        run(pool, *many)
        workers = pool.process_ids
        assert all(map(is_running, workers))
    assert not any(map(is_running, workers))


_PARENT = """
import os, sys
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.model.record import HashTask
from lifecycle_sync.observe.hash_pool import HashPool

root, size = os.fsencode(sys.argv[1]), int(sys.argv[2])
pool = HashPool(2, margin_ns=0)
tasks = [HashTask(n, b"", b"%d" % n, size, 0, 0, 0) for n in range(2000 if size == 0 else 2)]

def tell(_count=0):
    print(*pool.process_ids, flush=True)

for _ in pool.hash(root, tasks, cancel=CancelToken(), on_bytes=tell):
    pass
tell()
sys.stdin.read()
"""


@pytest.mark.parametrize("size", [0, HUGE_BYTES], ids=["idle", "busy"])
def test_a_parent_killed_with_sigkill_leaves_no_worker(tmp_path, size):
    for name in ("0", "1"):
        make_sparse(tmp_path / name, size)
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path), str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(workers) == 2
        assert all(map(is_running, workers))
        parent.kill()
        wait_until(lambda: not any(map(is_running, workers)))


@pytest.mark.parametrize(("is_ours", "answers"), [(True, 2), (False, 1)])
def test_a_worker_that_has_another_parent_now_does_not_go_on(tmp_path, is_ours, answers):
    # However open its pipes are: a fork of its parent may hold them.
    parent = str(os.getpid() if is_ours else os.getppid())
    module = "lifecycle_sync.observe.hash_worker"
    command = [sys.executable, "-S", "-P", "-m", module, parent, "sha256", "0", "", ""]
    output = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        input=frame((os.fsencode(tmp_path), False, [(b"", [b"f"])])),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    kinds = [kind for kind in (b"ready", b"results") if kind in output]
    assert len(kinds) == answers


# -- what a worker costs -------------------------------------------------------------------------


def test_a_worker_imports_only_what_hashing_needs():
    script = "import sys, lifecycle_sync.observe.hash_worker; print(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-S", "-P", "-c", script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        check=True,
    )
    modules = set(output.stdout.decode().split())
    assert "lifecycle_sync.observe.hasher" in modules
    heavy = {"apsw", "asyncio", "click", "dataclasses", "logging", "msgspec", "subprocess"}
    assert modules & (heavy | {"lifecycle_sync.model.record"}) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="the numbers are those of Linux")
def test_a_worker_stays_small(tree):
    with pool_of() as pool:
        run(pool, tree, tasks_of(tree))
        for pid in pool.process_ids:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                lines = dict(line.split(":", 1) for line in file if ":" in line[:20])
            # Its own memory; the rest is the files of the interpreter, which are there anyway.
            assert int(lines["Anonymous"].split()[0]) < 12 << 10
