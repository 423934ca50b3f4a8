"""Events survive being lines of JSON, whatever is in them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_sync.clock import NS_MAX, NS_MIN
from lifecycle_sync.model.content import ContentKey, Metadata
from lifecycle_sync.model.event import (
    AssignmentEvent,
    ConfirmationEvent,
    DirectoryEvent,
    HoldEvent,
    PolicyEvent,
    RepositoryEvent,
    StateEvent,
    UnknownEvent,
    VersionEvent,
)
from lifecycle_sync.model.file import FileType, Kind, LifecycleState
from lifecycle_sync.model.policy import LifecyclePolicy
from lifecycle_sync.model.repository import RepositoryKind
from lifecycle_sync.vault.events import (
    PlainFile,
    decode_event,
    encode_event,
    encode_plain,
    look_at,
)
from tests.support.vaults import metadata

ids = st.binary(min_size=16, max_size=16)
paths = st.binary(max_size=40) | st.text(max_size=20).map(
    lambda text: text.encode(errors="surrogatepass")
)
times = st.integers(NS_MIN, NS_MAX)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
states = st.sampled_from(LifecycleState)
keys = st.builds(
    ContentKey, st.sampled_from(["sha256", "blake3"]), st.binary(min_size=32, max_size=32)
)
metadatas = st.builds(
    Metadata,
    kind=st.sampled_from(Kind),
    size=st.integers(0, 2**63 - 1),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32),
    gid=st.integers(0, 2**32),
    user=texts,
    group=texts,
    mtime_ns=times,
    atime_ns=times,
    btime_ns=times | st.none(),
    ctime_ns=times,
    inode=st.integers(-(2**63), 2**64 - 1),
    nlink=st.integers(0, 2**32),
    xattrs=st.dictionaries(st.binary(min_size=1, max_size=9), st.binary(max_size=9)).map(
        lambda found: tuple(found.items())
    ),
    extents=st.none() | st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99))).map(tuple),
    target=st.none() | paths,
)
policies = st.builds(LifecyclePolicy, texts, st.lists(st.sampled_from(FileType), max_size=3))
events = st.one_of(
    st.builds(
        VersionEvent,
        file_id=ids,
        repository_id=ids,
        path=paths,
        number=st.integers(0, 2**40),
        version_id=ids,
        content=st.none() | keys,
        metadata=metadatas,
        policy_name=texts,
        policy_explicit=st.booleans(),
        state=states,
        at_ns=times,
        operation_id=ids,
    ),
    st.builds(
        StateEvent,
        file_id=ids,
        repository_id=ids,
        path=paths,
        state=states,
        at_ns=times,
        operation_id=ids,
        reason=texts,
    ),
    st.builds(DirectoryEvent, repository_id=ids, path=paths, metadata=metadatas, at_ns=times),
    st.builds(
        RepositoryEvent,
        repository_id=ids,
        path=paths,
        kind=st.sampled_from(RepositoryKind),
        enforce=st.booleans(),
        registry_id=ids,
        at_ns=times,
    ),
    st.builds(PolicyEvent, policy=policies, removed=st.booleans(), at_ns=times),
    st.builds(
        AssignmentEvent,
        file_id=ids,
        repository_id=ids,
        path=paths,
        policy_name=texts,
        explicit=st.booleans(),
        at_ns=times,
    ),
    st.builds(
        HoldEvent,
        hold_id=ids,
        file_id=st.none() | ids,
        query=st.none() | texts,
        reason=texts,
        owner=texts,
        created_ns=times,
        ends_ns=st.none() | times,
        released_ns=st.none() | times,
    ),
    st.builds(ConfirmationEvent, repository_id=ids, guard=texts, evidence=texts, at_ns=times),
)


@given(events)
def test_an_event_is_the_same_after_being_a_line(event):
    line = encode_event(event)
    assert b"\n" not in line
    assert line.startswith(b'{"event":"')
    json.loads(line)
    assert decode_event(line) == event


@given(paths)
def test_a_path_that_is_no_text_can_be_read_and_is_kept(path):
    line = json.loads(
        encode_event(DirectoryEvent(bytes(16), path, metadata(kind=Kind.DIRECTORY), 0))
    )
    try:
        assert line["path"] == path.decode()
        assert "path_bytes" not in line
    except UnicodeDecodeError:
        assert "\\x" in line["path"]
        assert "path_bytes" in line


@pytest.mark.parametrize(
    "raw",
    [
        b'{"event":"condemned","packs":["x"]}',
        b'{"event":"version","file":"' + b"0" * 32 + b'"}',
        b'{"event":"state","file":"../../etc","path":"x","operation":"00","state":"deleted",'
        b'"repository":"00","at":1}',
        b'{"event":"policy","policy":{"name":5},"at":1}',
        b"{}",
        b"no JSON at all",
        b"\xff\xfe",
        b'{"event":"directory","path":"x","path_bytes":"!!","metadata":{"size":1,"mtime":1,'
        b'"inode":1,"kind":"directory","mode":1,"uid":1,"gid":1},"repository":"'
        + b"0" * 32
        + b'","at":1}',
    ],
)
def test_what_is_not_understood_is_kept_as_it_stands(raw):
    event = decode_event(raw)
    assert event == UnknownEvent(raw)
    assert encode_event(event) == raw


def test_a_newer_writer_may_add_fields():
    event = StateEvent(bytes(16), bytes(16), b"a", LifecycleState.DELETED, 5, bytes(16), "why")
    line = encode_event(event)
    assert decode_event(line[:-1] + b',"colour":"green"}') == event


def _kind_and_content(raw: bytes) -> tuple[type, ContentKey | None]:
    event = decode_event(raw)
    return type(event), event.content if isinstance(event, VersionEvent) else None


@given(events)
def test_a_look_at_a_line_tells_which_event_it_is(event):
    line = encode_event(event)
    assert look_at(line) == _kind_and_content(line)


@given(events, st.data())
def test_a_look_at_a_damaged_line_tells_what_reading_it_does(event, data):
    line = bytearray(encode_event(event))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(line) - 1))
        line[at] = data.draw(st.sampled_from(b'0af"\\:{}[],ue-\xff'))
    assert look_at(bytes(line)) == _kind_and_content(bytes(line))


@given(metadatas, ids, paths, keys, texts, st.booleans(), states, times)
def test_the_line_of_a_plain_file_is_the_one_of_its_event(
    found, file_id, path, key, policy, explicit, state, at_ns
):
    found = replace(found, kind=Kind.REGULAR, btime_ns=None, xattrs=(), extents=None, target=None)
    event = VersionEvent(
        file_id=file_id,
        repository_id=bytes(16),
        path=path,
        number=7,
        version_id=file_id,
        content=key,
        metadata=found,
        policy_name=policy,
        policy_explicit=explicit,
        state=state,
        at_ns=at_ns,
        operation_id=file_id,
    )
    plain = PlainFile(**{name: getattr(found, name) for name in PlainFile._fields})
    line = encode_plain(
        plain,
        file_id=file_id,
        repository=bytes(16).hex(),
        path=path,
        number=7,
        version_id=file_id,
        content=key,
        policy=policy,
        explicit=explicit,
        state=state,
        at_ns=at_ns,
        operation_id=file_id,
    )
    assert line == encode_event(event)
