"""Scripts that jobs of these tests run, and the folder they are submitted from."""

from pathlib import Path

COUNTER = """\
import sys, time
for n in range(int(sys.argv[1])):
    print("line", n, flush=True)
    time.sleep(float(sys.argv[2]))
"""

STUBBORN = """\
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
while True:
    time.sleep(1)
"""

WITNESS = """\
import os, sys, time
print("gpus", os.environ["CHISEL_GPU_COUNT"], os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
open(os.path.join(sys.argv[1], os.environ["CHISEL_JOB_ID"]), "w").close()
while not os.path.exists(os.path.join(sys.argv[1], "go")):
    time.sleep(0.02)
"""


def write(folder: Path, name: str, text: str) -> Path:
    """A folder to submit from that holds just this script."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


def counter_lines(count: int) -> bytes:
    """What `COUNTER` prints."""
    return b"".join(b"line %d\n" % n for n in range(count))
