"""NATS and Postgres as containers, with the same face as a process of ours.

The images are CHISEL_TEST_NATS_IMAGE and CHISEL_TEST_PG_IMAGE; a test run never pulls one.
"""

import os
import signal
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

# Our containers are removed by the fixtures and by the reaper: Ryuk would be one more image.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")

import docker
import docker.errors
from testcontainers.community.nats import NatsContainer
from testcontainers.community.postgres import PostgresContainer

LABEL = "chisel-test"
"""Every container carries it, with the name of the folder of the fixture that made it."""


class Container:
    """One container; `make` builds it anew whenever there is none to start again."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._container: Any = None

    def start(self) -> None:
        if self._container is None:
            self._container = self._make()
            self._container.start()  # when it fails, `stop` still removes what there is
        else:
            self._wrapped().start()

    def kill(self) -> None:
        self._wrapped().kill()
        self._wrapped().wait()

    def stop(self, number: int = signal.SIGTERM, *, seconds: float = 10.0) -> int:
        """End it and remove it with all that it stored."""
        if self._container is not None:
            self._container.stop()
            self._container = None
        return 0

    def running(self) -> bool:
        if self._container is None:
            return False
        self._wrapped().reload()
        return bool(self._wrapped().status == "running")

    def tail(self, lines: int = 30) -> str:
        return str(self._wrapped().logs(tail=lines).decode(errors="replace"))

    def wait_until(self, ready: Callable[[], bool], *, seconds: float = 30.0) -> None:
        """Poll `ready` until true; fail with the log's tail when the container ends or time runs out."""
        end = time.monotonic() + seconds
        while not ready():
            assert self.running(), f"the container died:\n{self.tail()}"
            assert time.monotonic() < end, f"the container is not ready:\n{self.tail()}"
            time.sleep(0.02)

    def _wrapped(self) -> Any:
        return self._container.get_wrapped_container()


def nats(config: Path, *, port: int, label: str) -> Container:
    """A NATS with this configuration, reachable on `port` of loopback."""
    image = _image("CHISEL_TEST_NATS_IMAGE", "nats:2.14-alpine")

    def make() -> Any:
        made: Any = NatsContainer(image, labels={LABEL: label})
        made.ports = {"4222/tcp": ("127.0.0.1", port)}
        made.with_volume_mapping(config, "/chisel/nats.conf", "ro")
        return made.with_command("--config /chisel/nats.conf")

    return Container(make)


def postgres(*, password: str, port: int, durable: bool, label: str) -> Container:
    """A Postgres reachable on `port` of loopback."""
    image = _image("CHISEL_TEST_PG_IMAGE", "postgres:18-alpine")

    def make() -> Any:
        made: Any = PostgresContainer(
            image, username="chisel", password=password, dbname="postgres", driver=None, labels={LABEL: label}
        )
        made.ports = {"5432/tcp": ("127.0.0.1", port)}
        if not durable:
            made.with_command("postgres -c fsync=off -c full_page_writes=off")
        return made

    return Container(make)


def remove_all(label: str) -> None:
    """Remove the containers of one fixture, whatever became of it."""
    try:
        client = docker.from_env()
    except docker.errors.DockerException:
        return  # without Docker there are none
    with closing(client):
        for found in client.containers.list(all=True, filters={"label": f"{LABEL}={label}"}):
            found.remove(force=True, v=True)


def _image(variable: str, usual: str) -> str:
    """The image to use; a failure, never a skip, when Docker was asked for and cannot be had."""
    name = os.environ.get(variable, usual)
    if missing := _missing(name):
        raise AssertionError(f"CHISEL_TEST_BACKEND=docker, but {missing.format(variable=variable)}")
    return name


def _missing(image: str) -> str:
    """What keeps us from using `image`; empty when nothing does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # a client that does not reach Docker closes nothing
        try:
            with closing(docker.from_env(timeout=5)) as client:
                client.images.get(image)
        except docker.errors.ImageNotFound:
            return f"there is no image {image}: `docker pull {image}`, or name another in {{variable}}"
        except docker.errors.DockerException as error:
            return f"no Docker answers: {error}"
    return ""
