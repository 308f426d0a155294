"""The job of a chaos campaign: it prints what was agreed, and testifies outside the service that it lives.

`witness.py JSON`: the argument is `Script` of plan.py. Standard library only; imported by nobody.
"""

import hashlib
import json
import os
import signal
import sys
import threading
import time

CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
BEAT_SECONDS = 0.05
LONGEST_SECONDS = 300.0

told = json.loads(sys.argv[1])
attempt = os.environ["CHISEL_ATTEMPT"]
witness = os.open(
    os.path.join(os.environ["CHAOS_WITNESS"], told["name"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666
)


def say(word: str, detail: str = "-") -> None:
    """One line, in one write: `word attempt pid boottime detail`."""
    line = f"{word} {attempt} {os.getpid()} {time.clock_gettime(CLOCK):.6f} {detail}\n"
    os.write(witness, line.encode())


def beat(word: str) -> None:
    while True:
        time.sleep(BEAT_SECONDS)
        say(word)


def have_children() -> None:
    """A child, and a grandchild that left the session, forgot its parents and ignores what is asked."""
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if os.fork() == 0:
            os.setsid()
            if os.fork() != 0:
                os._exit(0)
        say("child")
        started = time.monotonic()
        while time.monotonic() - started < LONGEST_SECONDS:
            time.sleep(BEAT_SECONDS)
            say("child")
        os._exit(0)


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def leave(status: int) -> None:
    say("exit", str(status))
    os._exit(status)


# The handler runs when the interpreter gets to it; what was written by then is a prefix all the same.
for asked in (signal.SIGINT, signal.SIGTERM):
    signal.signal(asked, signal.SIG_IGN if told["stubborn"] else lambda *_: leave(130))

say("start", os.environ["CUDA_VISIBLE_DEVICES"] or "-")
if told["secret"] and not os.environ.get("CANARY", "").startswith("canary-"):
    leave(99)
if told["children"]:
    have_children()
threading.Thread(target=beat, args=("beat",), daemon=True).start()

streams = [
    (number, hashlib.shake_128(f"{told['key']} {number}".encode()).digest(size))
    for number, size in ((1, told["stdout"]), (2, told["stderr"]))
]
if told["outputs"]:
    os.mkdir("outputs")
    with open("outputs/data.bin", "wb") as file:
        file.write(left := hashlib.shake_128(f"{told['key']} outputs".encode()).digest(told["outputs"]))
    aside = os.path.join(os.environ["CHISEL_TRACE_DIR"], ".data.tmp")
    with open(aside, "wb") as file:
        file.write(left)
    os.rename(aside, aside.replace(".data.tmp", "data.json"))
for piece in range(told["pieces"]):
    for number, data in streams:
        first, last = (len(data) * at // told["pieces"] for at in (piece, piece + 1))
        write_all(number, data[first:last])
    time.sleep(told["seconds"] / told["pieces"])

if told["signal"]:
    if told["signal"] != signal.SIGKILL:
        signal.signal(told["signal"], signal.SIG_DFL)
    say("signal", str(told["signal"]))
    os.kill(os.getpid(), told["signal"])
leave(told["exit_code"])
