"""`python -W error -m tests.traces.fuzz COUNT [FIRST]`: damaged traces, each read and summarised.

Case N is made from the seed N alone, so that it can be looked at by itself. Prints how many were traces and
how many were refused; any other outcome ends it with a traceback. The address space is bounded: a trace
that makes the reader take much memory is a failure. A case that hangs is ended by `faulthandler`.
"""

import copy
import faulthandler
import gzip
import io
import json
import random
import resource
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from chisel_shared.traces.read import TraceError, read
from chisel_shared.traces.summary import first_line, summarize
from tests.traces.build import Trace

MEMORY_BYTES = 1 << 30
"""Of address space: what the interpreter and its libraries map is two thirds of it."""
HANG_SECONDS = 20
MAX_BYTES = 64 << 20

_VALUES: list[Any] = [
    *(None, True, -1, 0, 1, 2**31, 2**63, -(2**63), 10**40, 0.5, -1e300, 1e308, float("nan"), float("inf")),
    *("", "X", "kernel", "aten::mm", "nccl", "ProfilerStep#1", "a.py(1): f", "\ud800", 'q"q', '},{"ph'),
    *([], [1, 2], {}, {"a": [{"b": 1}]}),
]
_BYTES = [
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\n", b"\0", b"\xff", b"-"),
    *(b"9" * 40, b"},{", b"NaN", b'},\n  {"ph"'),
]


@cache
def bases() -> list[bytes]:
    trace = Trace(deviceProperties=[{"name": "H100"}], distributedInfo={"rank": 0, "world_size": 2})
    trace.span("ProfilerStep#1", 0, 90)
    trace.span("chisel::train", 0, 95)
    collective: dict[str, Any] = {"Collective name": "allreduce", "In msg nelems": 8}
    for at in (0.0, 30.0, 60.0):
        trace.python("train.py(3): step", at, 28)
        trace.op("aten::mm", at, 9)
        trace.kernel(at + 6, 9, launch=at + 1, grid=(4, 1, 1))
        trace.kernel(at + 8, 4, launch=at + 2, stream=9, name="ncclDevKernel_AllReduce", **collective)
        trace.copy(at + 16, 4, launch=at + 3)
        trace.call("cudaStreamSynchronize", at + 14, 8)
        trace.allocate(at + 2, 512, 512, address=int(at), reserved=2048)
        trace.allocate(at + 20, -512, 0, address=int(at), reserved=2048)
    trace.kernel(92, 1)
    trace.kernel(94, 1, launch=91, by="cudaGraphLaunch", device=1)
    one_line = trace.data()
    spread = json.dumps(json.loads(one_line), indent=2).encode()
    published = sorted((Path(__file__).parent / "data").rglob("*.json.gz"))
    heads = [gzip.decompress(path.read_bytes())[: 24 << 10] for path in published]
    return [one_line, spread, json.dumps(trace.events).encode(), trace.gz(), *heads]


def damaged(number: int) -> bytes:
    chance = random.Random(number)
    base = chance.choice(bases())
    ways: list[Callable[[bytes, random.Random], bytes]] = [_by_bytes, _cut, _by_values, _by_values, _packed]
    return chance.choice(ways)(base, chance)


def _by_bytes(data: bytes, chance: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 5, 40])):
        at = chance.randrange(len(found))
        match chance.randrange(5):
            case 0:
                found[at] = chance.randrange(256)
            case 1:
                found[at:at] = chance.choice(_BYTES)
            case 2:
                del found[at : at + chance.choice([1, 3, 50])]
            case 3:
                found[at:at] = found[chance.randrange(len(found)) :][: chance.choice([1, 20, 300])]
            case _:
                found[at : at + 1] = chance.choice(_BYTES)
        if not found:
            break
    return bytes(found)


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _by_values(data: bytes, chance: random.Random) -> bytes:
    if not data.lstrip().startswith((b"{", b"[")):
        data = gzip.decompress(data)
    try:
        whole = json.loads(data)
    except ValueError:  # a head of a file
        return _by_bytes(data, chance)
    for _ in range(chance.choice([1, 2, 5, 30])):
        _change(whole, chance)
    text = json.dumps(whole, ensure_ascii=chance.random() < 0.8, indent=chance.choice([None, None, 2]))
    return text.encode(errors="surrogatepass")


def _change(whole: Any, chance: random.Random) -> None:
    inside = whole
    while inside:
        key = chance.choice(list(inside)) if isinstance(inside, dict) else chance.randrange(len(inside))
        value = inside[key]
        if isinstance(value, dict | list) and value and chance.random() < 0.9:
            inside = value
            continue
        match chance.randrange(4):
            case 0:
                del inside[key]
            case 1 if isinstance(inside, list):
                inside[key:key] = [_odd(chance), copy.deepcopy(value)]
            case 2 if isinstance(inside, dict):
                inside[chance.choice(["ts", "dur", "args", "ph", "name", "cat", "odd"])] = _odd(chance)
            case _:
                inside[key] = _odd(chance)
        return


def _odd(chance: random.Random) -> Any:
    return copy.deepcopy(chance.choice(_VALUES))


def _packed(data: bytes, chance: random.Random) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        data = gzip.compress(data, 1, mtime=0)
    return chance.choice([_cut, _by_bytes])(data, chance)


def outcome(data: bytes) -> str:
    """What became of it; whatever else is raised is a defect."""
    try:
        columns = read(io.BytesIO(data), max_bytes=MAX_BYTES)
    except TraceError:
        return "refused"
    summary = summarize(columns, name="fuzz.json")
    assert first_line(summary)
    msgspec.json.encode(summary)
    return "cut" if columns.truncated else "damaged" if columns.damaged else "read"


def main() -> None:
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    outcomes: Counter[str] = Counter()
    for number in range(first, first + count):
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        try:
            outcomes[outcome(damaged(number))] += 1
        except BaseException:
            sys.stderr.write(f"case {number}\n")
            raise
    faulthandler.cancel_dump_traceback_later()
    sys.stdout.write(json.dumps(outcomes) + "\n")


if __name__ == "__main__":
    main()
