"""A job that does not want to die: double-forked, in sessions of their own, deaf to every signal that can be
ignored, hopping from process to process, forking anew whatever is killed, without any mark of the job.

All of its processes hold one lock on the file `alive` in the working directory, because a lock belongs to
the open file that a fork inherits: nobody can take it as long as one of them lives, wherever it went.
"""

import fcntl
import os
from pathlib import Path

SCRIPT = """
import fcntl, os, signal, sys, time

alive = open("alive", "w")
fcntl.flock(alive, fcntl.LOCK_EX)
os.set_inheritable(alive.fileno(), True)
for number in (1, 2, 3, 10, 12, 15):
    signal.signal(number, signal.SIG_IGN)

def daemon(work):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            work()
        os._exit(0)

def stay():
    while True:
        time.sleep(600)

def unmarked():
    os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"], {})

def hop():
    while True:
        if os.fork():
            os._exit(0)
        os.setsid()

def bomb(width=8):
    living = 0
    while True:
        if os.fork() == 0:
            os.setsid()
            stay()
        living += 1
        if living == width:
            os.wait()  # somebody killed one: here is another
            living -= 1

for work in (stay, unmarked, hop, hop, bomb, bomb, bomb):
    daemon(work)
if os.fork() == 0:
    stay()
print(f"ready {os.getpid()}", flush=True)
while not os.path.exists("go"):
    time.sleep(0.001)
print("gone", flush=True)
"""
"""Ends, and leaves the others, when the file `go` appears."""


def is_alive(folder: Path) -> bool:
    """Whether one of its processes lives; `folder` is its working directory."""
    with (folder / "alive").open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def until_dead(folder: Path) -> None:
    """Return at the moment its last process has gone."""
    descriptor = os.open(folder / "alive", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)
