"""The process that becomes the user's: forked early, started late. Standard library only.

A spare shim forks it before there is a job, so that what is slow (joining a control group can wait
15 ms for the kernel) is over when one comes. Until released it holds nothing but its
pipes; when its shim dies before that, it goes too.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has only the slow wrapper
import os

from chisel_agent import shim_cgroup
from chisel_agent.shim_system import (
    SIGHUP,
    SIGINT,
    SIGPIPE,
    SIGQUIT,
    SIGTERM,
    SIGXFSZ,
    Launch,
    become_subreaper,
    read,
    widen,
    write_all,
)

DEFAULTED = (SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM, SIGXFSZ)
"""Signals that a job finds at their default, whatever its ancestors ignored."""


class Child:
    """The waiting process, and the pipes its output will come through."""

    def __init__(self, cgroup_parents: list[str]) -> None:
        become_subreaper()
        self.cgroups = shim_cgroup.make(cgroup_parents)
        self.stdout, stdout = os.pipe()
        self.stderr, stderr = os.pipe()
        self._problem, problem = os.pipe()
        go, self._go = os.pipe()
        for pipe in (self.stdout, self.stderr):
            widen(pipe)
            os.set_blocking(pipe, False)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._go)
                wait_and_become(go, stdout, stderr, problem, self.cgroups)
            finally:
                os._exit(127)
        for descriptor in (go, stdout, stderr, problem):
            os.close(descriptor)

    def release(self, folder: str, secrets: bytes) -> str:
        """Let it become the job of `folder`, which finds `secrets` too; "" once its program has taken
        over, else what went wrong."""
        word = os.fsencode(folder) + b"\0" + secrets
        try:
            write_all(self._go, b"%d\0" % len(word) + word)
        except BrokenPipeError:
            return "its process was killed before it began"
        os.close(self._go)
        problem = os.read(self._problem, 4096)
        os.close(self._problem)
        return os.fsdecode(problem)

    def dismiss(self) -> None:
        """There will be no job."""
        os.close(self._go)
        os.waitpid(self.pid, 0)
        shim_cgroup.remove(self.cgroups)


def wait_and_become(go: int, stdout: int, stderr: int, problem: int, cgroups: list[str]) -> None:
    os.setsid()
    shim_cgroup.join(cgroups)
    null = os.open("/dev/null", os.O_RDONLY)
    for number, descriptor in enumerate((null, stdout, stderr)):
        os.dup2(descriptor, number)  # the only descriptors that stay open over exec
    heard = b""
    while part := os.read(go, 1 << 16):
        heard += part
    length, _, word = heard.partition(b"\0")
    if not word or len(word) != int(length):
        return  # the shim was killed, perhaps in the middle of a word
    folder, _, secrets = word.partition(b"\0")
    argv: list[str] = []
    try:
        os.chdir(folder)
        launch = Launch(read("launch"))
        argv = launch.argv
        for number in DEFAULTED:
            _signal.signal(number, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        try:
            os.chdir(launch.cwd)
        except OSError as error:
            raise OSError(error.errno, f"its working directory: {error.strerror}") from None
        for pair in secrets.split(b"\0"):
            name, equals, value = os.fsdecode(pair).partition("=")
            if equals:
                launch.env[name] = value
        os.execvpe(argv[0], argv, launch.env)
    except BaseException as error:
        text = getattr(error, "strerror", None) or str(error)
        os.write(problem, os.fsencode(f"{argv[0] if argv else 'the job'}: {text}")[:4000])
