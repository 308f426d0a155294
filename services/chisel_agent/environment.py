"""The interpreters that jobs run with: the base one, or a virtual environment that adds to it.

An environment is named by what was asked for and what the base is, built once however many jobs wait
for it, and kept while there is room. A pointer file, written last, is what makes it exist: whatever a
crash leaves behind has no pointer and is swept. Folders are never renamed, because scripts name their
interpreter.

An attempt's own folder shows what it uses: `environment` there is a link to a shared one. It is a
folder where requirements name paths: that environment leads into the attempt's files and ends with it.
"""

import asyncio
import json
import os
import secrets
import shutil
from pathlib import Path

import msgspec

from chisel_agent.installer import BuildFailed, Installer, end_builds, run_json
from chisel_agent.records import write_aside
from chisel_agent.requirements import Requirements, included
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.environment")

_PROBE = Path(__file__).with_name("probe.py").read_text()
# Run as text, not as a file: beside the file lie modules that the base must not find.


class Base(msgspec.Struct, frozen=True):
    """What the base interpreter says about itself."""

    version: str
    implementation: str
    platform: str
    executable: str
    prefix: str
    packages: tuple[str, ...]
    installed: tuple[tuple[str, str], ...]
    pip: bool

    def identity(self) -> str:
        return msgspec.json.encode(self).decode()


class Environment(msgspec.Struct, frozen=True):
    """An interpreter to run jobs with. `folder` is the virtual environment's; None for the base."""

    python: Path
    folder: Path | None = None


class _Pointer(msgspec.Struct, frozen=True):
    folder: str | None
    """Below the environments' own folder; None when the base has everything."""
    size_bytes: int = 0


def own_environment(user: Path) -> Path:
    """Where the attempt whose folder `user` is has its environment, or the link to it."""
    return user / "environment"


def leave_environment(user: Path) -> None:
    """The attempt needs its environment no longer."""
    path = own_environment(user)
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


class Environments:
    def __init__(
        self,
        *,
        folder: Path,
        used_in: Path,
        max_bytes: int,
        base_python: Path,
        installer: Installer,
    ) -> None:
        self._folder = folder
        self._used_in = used_in
        self._max_bytes = max_bytes
        self._base_python = base_python
        self._installer = installer
        self._base: tuple[tuple[tuple[str, int], ...], Base] | None = None
        self._fits: dict[tuple[str, str], object] = {}
        self._builds: dict[str, tuple[asyncio.Task[Environment], set[object]]] = {}

    def sweep(self) -> None:
        """Remove builds that an earlier agent did not finish; their installers may still be running."""
        pointed = {pointer.folder for pointer in map(_read_pointer, self._folder.glob("*.env")) if pointer}
        for path in self._folder.iterdir():
            if path.is_dir() and path.name not in pointed:
                end_builds(path)
                shutil.rmtree(path, ignore_errors=True)

    async def get(self, requirements: Requirements | None, *, user: Path) -> Environment:
        """The environment for `requirements`, built if need be, and kept until the attempt whose folder
        `user` is leaves it. `BuildFailed` has the installer's last lines. Cancelling the last one who
        waits ends the build."""
        if requirements is not None and requirements.python:
            await self._check_python(requirements.python)
        if requirements is None or not requirements.lines():
            return Environment(self._base_python)
        base = await self._describe_base()
        if requirements.local:
            return await self._install(own_environment(user), requirements, base)
        key = requirements.digest(base.identity())
        found = self._known(key) or await self._share(key, requirements, base)
        if found.folder is not None:
            os.utime(self._folder / f"{key}.env")
            own_environment(user).symlink_to(found.folder)
        return found

    async def _check_python(self, wanted: str) -> None:
        """`BuildFailed` when the base is not one of the versions `wanted`."""
        base = await self._describe_base()
        asked = (base.version, wanted)
        if asked not in self._fits:
            self._fits[asked] = await run_json(
                self._base_python, _PROBE, "fits", wanted, env=self._installer.env
            )
        if self._fits[asked] is False:
            raise BuildFailed(
                f"the script requires Python {wanted}, and this agent runs jobs with {base.version}:"
                " widen requires-python, or ask for an agent with another Python"
            )

    def _known(self, key: str) -> Environment | None:
        pointer = _read_pointer(self._folder / f"{key}.env")
        if pointer is None:
            return None
        if pointer.folder is None:
            return Environment(self._base_python)
        folder = self._folder / pointer.folder
        python = folder / "bin" / "python"
        return Environment(python, folder) if python.exists() else None

    async def _share(self, key: str, requirements: Requirements, base: Base) -> Environment:
        """One build per key at a time, whoever asks; it lives as long as anybody waits for it."""
        me = object()
        if key not in self._builds:
            task = asyncio.create_task(self._build(key, requirements, base), name=f"environment {key}")
            self._builds[key] = (task, set())
        task, waiting = self._builds[key]
        waiting.add(me)
        try:
            return await asyncio.shield(task)
        finally:
            waiting.discard(me)
            if not waiting:
                if self._builds.get(key, (None,))[0] is task:
                    del self._builds[key]
                if not task.done():
                    task.cancel()
                    await asyncio.wait({task})

    async def _build(self, key: str, requirements: Requirements, base: Base) -> Environment:
        plain = [line for line in requirements.lines() if included(line) is None]
        if await self._satisfied(key, plain):
            log.info("environment_is_base", key=key)
            self._point(key, None)
            return Environment(self._base_python)
        folder = self._folder / f"{key}.{secrets.token_hex(4)}"
        made = await self._install(folder, requirements, base)
        self._point(key, folder.name, await asyncio.to_thread(_size, folder))
        await self._make_room()
        return made

    async def _install(self, folder: Path, requirements: Requirements, base: Base) -> Environment:
        log.info("environment_build_started", folder=folder.name)
        try:
            await self._installer.build(folder, requirements.path, base.packages, pip=base.pip)
        except BaseException as error:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            log.info("environment_build_failed", folder=folder.name, error=repr(error)[:500])
            raise
        log.info("environment_built", folder=folder.name)
        return Environment(folder / "bin" / "python", folder)

    async def _make_room(self) -> None:
        for folder in self._superfluous():
            log.info("environment_removed", folder=folder.name)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _superfluous(self) -> list[Path]:
        """Give up the longest unused environments until the rest fits, but none that is in use."""
        used = {link.resolve() for link in self._used_in.glob("*/environment")}
        found = []
        for path in self._folder.glob("*.env"):
            pointer = _read_pointer(path)
            if pointer is not None and pointer.folder is not None:
                used_at = path.stat().st_mtime_ns
                found.append((used_at, path, self._folder / pointer.folder, pointer.size_bytes))
        total = sum(size for *_, size in found)
        given_up = []
        for _, path, folder, size in sorted(found):
            if total <= self._max_bytes:
                break
            # One that somebody waits for will be in use in a moment.
            if path.stem not in self._builds and folder.resolve() not in used:
                path.unlink()
                given_up.append(folder)
                total -= size
        return given_up

    def _point(self, key: str, folder: str | None, size_bytes: int = 0) -> None:
        pointer = msgspec.json.encode(_Pointer(folder, size_bytes))
        write_aside(self._folder / f"{key}.env", pointer, durable=True)

    async def _satisfied(self, key: str, lines: list[str]) -> bool:
        """Whether the base has all of it. Lines that are options are none of its business, except
        those that change what may be installed; with any of them the installer decides."""
        if any(line.startswith("-") or "--hash" in line for line in lines):
            return False
        file = self._folder / f"{key}.lines"
        write_aside(file, json.dumps(lines).encode())
        try:
            answer = await run_json(self._base_python, _PROBE, "check", str(file), env=self._installer.env)
        finally:
            file.unlink(missing_ok=True)
        return answer is True

    async def _describe_base(self) -> Base:
        """Asked once, and again when a package was installed into the base or removed from it."""
        if self._base is not None:
            stamps, base = self._base
            if stamps == _stamps(base.packages):
                return base
        answer = await run_json(self._base_python, _PROBE, env=self._installer.env)
        base = msgspec.convert(answer, Base)
        self._base = (_stamps(base.packages), base)
        return base


def _stamps(folders: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    return tuple((folder, os.stat(folder).st_mtime_ns) for folder in folders if os.path.isdir(folder))


def _size(folder: Path) -> int:
    """What `folder` takes on the disk."""
    paths = (os.path.join(root, name) for root, _, names in os.walk(folder) for name in names)
    return sum(os.lstat(path).st_blocks * 512 for path in paths)


def _read_pointer(path: Path) -> _Pointer | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Pointer)
    except (OSError, msgspec.MsgspecError):
        return None
