"""Runs what builds environments: `venv`, then `pip`, in process groups that can be ended."""

import asyncio
import contextlib
import json
import os
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.installer")

_LAST_LINES = 20
_LINE_BYTES = 500


class BuildFailed(Exception):
    """An environment could not be built; the text is for the user: the installer's last lines."""


class Installer:
    def __init__(self, *, base_python: Path, env: Mapping[str, str], limit_seconds: float) -> None:
        self._base = str(base_python)
        self.env = env
        self._limit_seconds = limit_seconds

    async def build(
        self, folder: Path, requirements: Path, base_packages: Sequence[str], *, pip: bool
    ) -> None:
        """Make `folder` a virtual environment in which everything in `requirements` is importable.

        What the base has is visible in it and counts as installed; the base itself is never changed.
        """
        try:
            async with asyncio.timeout(self._limit_seconds):
                await self._build(folder, requirements, base_packages, pip=pip)
        except TimeoutError:
            raise BuildFailed(f"the installation took longer than {self._limit_seconds:g} s") from None

    async def _build(
        self, folder: Path, requirements: Path, base_packages: Sequence[str], *, pip: bool
    ) -> None:
        python = str(folder / "bin" / "python")
        await self._run([self._base, "-m", "venv", "--without-pip", str(folder)], cwd=folder.parent)
        see_base(folder, base_packages)
        options = ["--no-input", "--disable-pip-version-check", "--no-color", "--progress-bar", "off"]
        install = ["install", *options, "-r", str(requirements)]
        if pip:
            command = [self._base, "-m", "pip", "--python", python, *install]
        else:
            await self._run([python, "-m", "ensurepip", "--default-pip"], cwd=folder)
            command = [python, "-m", "pip", *install]
        await self._run(command, cwd=requirements.parent)

    async def _run(self, command: Sequence[str], *, cwd: Path) -> None:
        """Run to its end; `BuildFailed` with its last lines when that is not a success. Cancelling
        ends it and all it started."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd,
            env=dict(self.env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        lines: deque[str] = deque(maxlen=_LAST_LINES)
        try:
            assert process.stdout is not None
            rest = b""
            while data := await process.stdout.read(64 * 1024):
                *whole, rest = (rest + data).split(b"\n")
                lines.extend(_shown(line) for line in whole if line.strip())
                rest = rest[-_LINE_BYTES:]
            if rest.strip():
                lines.append(_shown(rest))
            status = await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await asyncio.shield(process.wait())
        if status != 0:
            raise BuildFailed("\n".join(lines) or f"{command[0]} ended with {status} and said nothing")


def _shown(line: bytes) -> str:
    return line[:_LINE_BYTES].decode(errors="replace").rstrip()


def see_base(folder: Path, base_packages: Sequence[str]) -> None:
    """Append the base's packages to the environment's own, which so come first. `addsitedir` and not
    a bare path, so that what the base has installed editable is found too."""
    (packages,) = (folder / "lib").glob("python*/site-packages")
    lines = [f"import site; site.addsitedir({path!r})" for path in base_packages]
    (packages / "_chisel_base.pth").write_text("\n".join(lines) + "\n")


async def run_json(python: Path, source: str, *arguments: str, env: Mapping[str, str]) -> object:
    """What the script `source` prints, as JSON; `BuildFailed` when the interpreter does not run it."""
    try:
        process = await asyncio.create_subprocess_exec(
            str(python),
            "-c",
            source,
            *arguments,
            cwd="/",
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise BuildFailed(f"the agent's interpreter {python} does not start: {error}") from error
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())
        raise
    if process.returncode != 0:
        raise BuildFailed(f"the agent's interpreter {python} failed:\n{err.decode(errors='replace')[-2000:]}")
    return json.loads(out)


def end_builds(folder: Path) -> None:
    """Kill installers that still build in `folder` for an agent that is gone."""
    mark = os.fsencode(folder)
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                command = Path(f"/proc/{name}/cmdline").read_bytes()
                if mark in command and int(name) != os.getpid():
                    os.killpg(os.getpgid(int(name)), signal.SIGKILL)
            except OSError:
                continue
