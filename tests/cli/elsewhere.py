"""Run as a script: the command on a Python that has nothing which only POSIX systems have.

What is hidden is what Windows does not have; the standard library's own modules are loaded before, for
there they would be others. `os.name` stays, because the standard library chooses its parts by it.
"""

import asyncio
import getpass
import http.client
import importlib.abc
import os
import select
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from types import ModuleType

LOADED = (asyncio, getpass, http.client, selectors, shutil, subprocess, tempfile, webbrowser)

MODULES = {
    "_posixsubprocess", "crypt", "fcntl", "grp", "nis", "pty", "pwd", "readline", "resource",
    "spwd", "syslog", "termios", "tty",
}  # fmt: skip

ATTRIBUTES: dict[ModuleType, Sequence[str]] = {
    os: (
        "O_CLOEXEC", "O_DIRECTORY", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK", "chown", "ctermid", "eventfd",
        "fchdir", "fchmod", "fchown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getgroups",
        "getloadavg", "getpgid", "getpgrp", "getpriority", "getsid", "getuid", "initgroups", "killpg",
        "lchown", "mkfifo", "mknod", "nice", "openpty", "pidfd_open", "pread", "pwrite", "sched_getaffinity",
        "sendfile", "setpgid", "setsid", "statvfs", "sync", "sysconf", "tcgetpgrp", "ttyname", "uname",
        "posix_spawn", "wait", "register_at_fork", "memfd_create", "copy_file_range", "posix_fadvise",
    ),
    select: ("epoll", "poll"),
    signal: (
        "SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGTSTP",
        "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGUSR2", "SIGWINCH", "alarm", "pthread_kill", "pthread_sigmask",
        "setitimer", "sigwait", "siginterrupt",
    ),
}  # fmt: skip


class Hiding(importlib.abc.MetaPathFinder):
    """Finds nothing of what is hidden, and lets nobody else find it."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}, which not every system has", name=name)


def hide() -> None:
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, Hiding())
    for module, names in ATTRIBUTES.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)


if __name__ == "__main__":
    hide()
    from chisel.cli import main

    main()
