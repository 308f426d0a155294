"""The scripts that are measured. The peers of the README's table ran the same ones."""

from pathlib import Path

HELLO = """\
import sys
print("HELLO-" + sys.argv[1])
"""

NOTHING = "pass\n"

LINES = """\
import sys
# "buffered" is how Python writes to a pipe by itself, and how the peers ran it; a job of ours has
# PYTHONUNBUFFERED set, and then the two system calls of every print are what is measured.
out = open(1, "w") if sys.argv[2] == "buffered" else sys.stdout
pad = "x" * 89
for i in range(int(sys.argv[1])):
    print(f"L{i:08d} {pad}", file=out)
"""

STAMPS = """\
import time
for _ in range(200):
    print(f"T{time.time_ns()}E", flush=True)
    time.sleep(0.02)
"""

SLEEPER = """\
import os, signal, sys, time
if sys.argv[2] == "ignore":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
aside = sys.argv[1] + ".new"
with open(aside, "w") as file:
    file.write(f"{os.getpid()} {os.environ['CHISEL_JOB_ID']}")
os.rename(aside, sys.argv[1])
end = time.time() + 900
while time.time() < end:
    time.sleep(0.2)
"""

LOUD = """\
import os, sys
left, block = int(sys.argv[1]), b"y\\n" * 32768
while left:
    left -= os.write(1, block[:left])
"""

_FILES = {
    "hello": HELLO,
    "nothing": NOTHING,
    "lines": LINES,
    "stamps": STAMPS,
    "sleeper": SLEEPER,
    "loud": LOUD,
}


def write(folder: Path) -> None:
    """Put every script into `folder`, which is what the benchmarks upload."""
    folder.mkdir(parents=True)
    for name, text in _FILES.items():
        (folder / f"{name}.py").write_text(text)
