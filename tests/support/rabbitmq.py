"""RabbitMQ from Debian, started for a test: a node of its own, and nothing of the machine's.

Its node name, ports, port mapper (epmd), home, cookie, database and logs are this one's alone,
below a temporary folder and on the loopback, so that it runs beside any other, as any user.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import amqp
import pytest

from tests.support.brokers import free_port

# Debian's command of that name insists on the machine's own database and user.
_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_TRIES = 3
_START_SECONDS = 90.0
_CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
disk_free_limit.absolute = 1MB
log.file.level = info
"""


@contextmanager
def running_rabbitmq(folder: Path) -> Iterator[str]:
    """The address of a broker that runs meanwhile; skipped where it is not installed, but in CI,
    which has to install it. `folder` is new."""
    server = _SERVER if _SERVER.exists() else shutil.which("rabbitmq-server")
    mapper = shutil.which("epmd")
    if server is None or mapper is None:
        reason = "RabbitMQ is not installed (on Debian: apt-get install rabbitmq-server)"
        if "CI" in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)
    faults = []
    for number in range(_TRIES):
        node = _Node(folder / str(number), str(server), mapper)
        try:
            if node.answers():
                yield node.address
                return
            faults.append(node.log())
        finally:
            node.stop()
    # A port that was free may be taken by the time it is bound: that is what the tries are for.
    pytest.fail("RabbitMQ did not start:\n" + "\n".join(faults))


class _Node:
    def __init__(self, folder: Path, server: str, mapper: str) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._port = free_port()
        self.address = f"amqp://guest:guest@127.0.0.1:{self._port}//"
        configuration = folder / "rabbitmq.conf"
        configuration.write_text(_CONFIGURATION.format(port=self._port))
        (folder / "enabled_plugins").write_text("[].\n")
        mapper_port = str(free_port())
        own = {
            "HOME": str(folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": mapper_port,
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(configuration),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_NODENAME": f"test-{os.getpid()}-{self._port}@localhost",
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            # Two schedulers that do not spin while they wait: the machine has other work.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none"
            " -kernel inet_dist_use_interface {127,0,0,1}",
        }
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RABBITMQ_", "ERL_"))
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        # The port mapper is ours to end; the server starts one itself only where none answers.
        for name, command in (("epmd", [mapper, "-port", mapper_port]), ("server", [server])):
            with (folder / f"{name}.log").open("wb") as output:
                self._processes.append(
                    subprocess.Popen(
                        command,
                        env={**kept, **own},
                        cwd=folder,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                        start_new_session=True,
                    )
                )

    def answers(self) -> bool:
        """Wait until it takes a connection; False where it has ended instead."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._processes[-1].poll() is None:
            try:
                with amqp.Connection(f"127.0.0.1:{self._port}", connect_timeout=5):
                    return True
            except (OSError, amqp.exceptions.AMQPError):
                time.sleep(0.05)
        return False

    def log(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in self._folder.glob("*.log"))

    def stop(self) -> None:
        """What it has on the disk is nobody's any more, so it need not end in order."""
        for process in reversed(self._processes):
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait(30)
