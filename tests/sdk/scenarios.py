"""What scripts do with `capture_trace`: each runs as a process of its own, with the real torch.

A script prints what it computes; it must print and exit alike where it is traced and where it is not.
"""

from dataclasses import dataclass, field

BEFORE = """
import asyncio, concurrent.futures, functools, gc, inspect, os, signal, subprocess, sys, threading, time
import torch
import chisel
from chisel import capture_trace
DEVICE = os.environ["SCENARIO_DEVICE"]
x = torch.ones(8, 8, device=DEVICE)
"""

BARE = BEFORE.replace("import torch\n", "").rpartition("x =")[0]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`traces`: the stem of each trace that is saved, and how its capture ended."""

    code: str
    traces: dict[str, str] = field(default_factory=dict)
    status: int = 0
    traced_status: int | None = None
    """Where it differs."""
    before: str = BEFORE
    says: str = ""
    """Part of what stands on stderr."""
    holds: tuple[str, ...] = ("aten::mm",)
    """Names in every trace."""
    left: tuple[str, ...] = ()
    """Hidden files that stay."""
    folder: str = "traces"
    errors: int | None = None
    """Lines on stderr of ours; at most two a trace without this."""


SCENARIOS = {
    "bare": Scenario(
        code="""
@capture_trace
def f(a, *, b: int = 1) -> float:
    "Doc."
    return float((x @ x).sum()) + a + b
print(f(1, b=2), f.__name__, f.__doc__, inspect.signature(f))
""",
        traces={"f": "return"},
        errors=1,
    ),
    "options": Scenario(
        code="""
@capture_trace("all of them", True, True, with_stack=True, max_calls=1)
def f(): return float((x @ x).sum())
print(f(), f())
""",
        traces={"all_of_them": "return"},
        errors=2,
    ),
    "exception": Scenario(
        code="""
ran = 0
@capture_trace("boom")
def f():
    global ran
    ran += 1
    x @ x
    raise ValueError("theirs")
try: f()
except ValueError as error: print("caught", error, ran)
f()
""",
        traces={"boom": "exception", "boom.2": "exception"},
        status=1,
        says="ValueError: theirs",
    ),
    "exit": Scenario(
        code="""
@capture_trace
def f():
    x @ x
    sys.exit(7)
f()
""",
        traces={"f": "exception"},
        status=7,
    ),
    "interrupt": Scenario(
        code="""
@capture_trace
def f():
    x @ x
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
try: f()
except KeyboardInterrupt: print("interrupted")
f()
""",
        traces={"f": "signal", "f.2": "signal"},
        status=-2,
    ),
    "terminate": Scenario(
        code="""
@capture_trace
def f():
    x @ x
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    try: time.sleep(60)
    except: os._exit(77)
f()
""",
        traces={"f": "signal"},
        status=-15,
        traced_status=77,
    ),
    "terminate-unwinds": Scenario(
        code="""
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
@capture_trace
def f():
    x @ x
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
try: f()
finally: assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
""",
        traces={"f": "signal"},
        status=-15,
        traced_status=143,
    ),
    "own-handler": Scenario(
        code="""
def stop(*_): raise RuntimeError("stopped")
signal.signal(signal.SIGTERM, stop)
@capture_trace
def f():
    x @ x
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
try: f()
except RuntimeError as error: print(error)
assert signal.getsignal(signal.SIGTERM) is stop
""",
        traces={"f": "exception"},
    ),
    "nested": Scenario(
        code="""
@capture_trace
def inner(): return x * 2
@capture_trace
def outer(n):
    x @ x
    inner()
    return n if n == 0 else outer(n - 1)
print(outer(4), float(inner().sum()))
""",
        traces={"outer": "return", "inner": "return"},
        holds=("aten::mul",),
    ),
    "their-profiler-inside": Scenario(
        code="""
@capture_trace
def f():
    x @ x
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as own: x * 2
    return "aten::mul" in {event.name for event in own.events()}
print(f(), f())
""",
        traces={"f": "foreign-profiler", "f.2": "foreign-profiler"},
        errors=2,
    ),
    "their-profiler-around": Scenario(
        code="""
@capture_trace
def f(): return x @ x
with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as own: f()
print("aten::mm" in {event.name for event in own.events()})
own.export_chrome_trace(os.devnull)
""",
        says="f is not traced: another torch profiler is running",
        errors=1,
    ),
    "their-profiler-in-a-thread": Scenario(
        code="""
@capture_trace
def f():
    x @ x
    def work():
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as own: x * 2
        print(len(own.events()) > 0)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
f()
print("alive")
f()
""",
        says="its trace is lost, another thread started a profiler",
        errors=1,
        left=(".f.open",),
    ),
    "their-itt": Scenario(
        code="""
@capture_trace
def f():
    x @ x
    try:
        with torch.autograd.profiler.emit_itt(): x * 2
    except Exception as error: return type(error).__name__
print(f())
""",
        traces={"f": "foreign-profiler"},
    ),
    "many-calls": Scenario(
        code="""
@capture_trace
def f(i):
    x @ x
    return i
print([f(i) for i in range(10)])
""",
        traces={"f": "return", "f.2": "return", "f.3": "return"},
        errors=4,
        says="f: 3 calls were traced, later ones run untraced",
    ),
    "skipped-calls": Scenario(
        code="""
@capture_trace(skip=2, max_calls=1)
def f(i):
    x @ x
    return i
print([f(i) for i in range(5)])
""",
        traces={"f": "return"},
    ),
    "equal-names": Scenario(
        code="""
f = capture_trace("same")(lambda: x @ x)
g = capture_trace("same")(lambda: x @ x @ x)
print(float(f().sum()), float(g().sum()))
""",
        traces={"same": "return", "same.2": "return"},
    ),
    "long": Scenario(
        code="""
@capture_trace(max_seconds=0.3)
def f():
    until = time.monotonic() + 30
    while time.monotonic() < until:
        x @ x
        if os.path.exists(os.environ.get("CHISEL_TRACE_DIR", "/") + "/f.json") or at_home: break
    x * 2
    return "to the end"
at_home = "CHISEL_TRACE_DIR" not in os.environ
print(f(), threading.active_count())
""",
        traces={"f": "max_seconds"},
        errors=1,
        says="it ends early: max_seconds",
    ),
    "much-memory": Scenario(
        code="""
import chisel.trace.bounds
chisel.trace.bounds.MAX_MEMORY_BYTES = 50_000_000
@capture_trace("fat")
def f():
    x @ x
    mine = bytearray(os.urandom(1 << 20) * 80)
    for _ in range(300):
        time.sleep(0.1)
        if at_home or os.path.exists(os.environ["CHISEL_TRACE_DIR"] + "/fat.json"): break
    return len(mine)
at_home = "CHISEL_TRACE_DIR" not in os.environ
print(f())
""",
        traces={"fat": "max_memory"},
    ),
    "large-file": Scenario(
        code="""
@capture_trace(max_bytes=1_000_000)
def f():
    for i in range(2_000_000):
        x @ x
        if i % 500 == 0 and (at_home or os.path.exists(os.environ["CHISEL_TRACE_DIR"] + "/f.json")): break
    return "done"
at_home = "CHISEL_TRACE_DIR" not in os.environ
print(f())
""",
        traces={"f": "max_bytes"},
    ),
    "steps": Scenario(
        code="""
@capture_trace(steps=(1, 1, 2))
def train():
    for i in range(8):
        x @ x
        if i == 6: torch.ones(3) * 3
        chisel.step()
    return i
print(train())
chisel.step()
""",
        traces={"train": "steps"},
        holds=("aten::mm", "ProfilerStep#2", "ProfilerStep#3"),
        errors=1,
    ),
    "optimizer-steps": Scenario(
        code="""
w = torch.nn.Parameter(torch.ones(8, 8, device=DEVICE))
one, other = torch.optim.SGD([w], lr=0.1), torch.optim.Adam([w], lr=0.1)
@capture_trace(steps=(2, 0, 2))
def train():
    for i in range(8):
        (w @ x).sum().backward()
        one.step()
        other.step()
    return i
print(train(), round(float(w.sum()), 3))
""",
        traces={"train": "steps"},
        holds=("aten::mm", "ProfilerStep#2", "ProfilerStep#3"),
        errors=1,
    ),
    "too-few-steps": Scenario(
        code="""
@capture_trace(steps=(5, 1, 2))
def train():
    for i in range(3):
        x @ x
        chisel.step()
    return i
@capture_trace(steps=(1, 5, 2))
def warm():
    for i in range(3):
        x @ x
        chisel.step()
    return i
@capture_trace(steps=(1, 1, 20))
def some():
    for i in range(3):
        x @ x
        chisel.step()
    return i
print(train(), warm(), some())
""",
        traces={"some": "return"},
        says="train: no trace, the call ended after 3 steps",
        errors=3,
    ),
    "coroutines": Scenario(
        code="""
@capture_trace
async def f(i):
    x @ x
    await asyncio.sleep(0.01)
    return i
async def main(): return await asyncio.gather(*[f(i) for i in range(5)])
print(asyncio.run(main()), inspect.iscoroutinefunction(f))
""",
        traces={"f": "return"},
    ),
    "cancelled-coroutine": Scenario(
        code="""
@capture_trace
async def f():
    x @ x
    await asyncio.sleep(60)
async def main():
    task = asyncio.create_task(f())
    await asyncio.sleep(0.02)
    task.cancel()
    try: await task
    except asyncio.CancelledError: print("cancelled")
asyncio.run(main())
""",
        traces={"f": "exception"},
    ),
    "generator": Scenario(
        code="""
@capture_trace
def f():
    got = yield 1
    x @ x
    yield got
    return 5
g = f()
print(next(g), g.send("hi"), inspect.isgeneratorfunction(f))
try: next(g)
except StopIteration as stop: print(stop.value)
for value in f(): break
x @ x
gc.collect()
""",
        traces={"f": "return", "f.2": "closed"},
        holds=(),
    ),
    "generator-closed-elsewhere": Scenario(
        code="""
@capture_trace
def f():
    while True:
        x @ x
        yield 1
held = [f()]
print(next(held[0]))
thread = threading.Thread(target=held.clear)
thread.start()
thread.join()
print(float((x @ x).sum()))
@capture_trace
def after(): return float((x @ x).sum())
print(after())
""",
        traces={"f": "closed", "after": "return"},
    ),
    "generator-of-a-thread": Scenario(
        code="""
@capture_trace
def f():
    while True:
        x @ x
        yield 1
held = [f()]
thread = threading.Thread(target=lambda: print(next(held[0])))
thread.start()
thread.join()
held.clear()
print(float((x @ x).sum()))
@capture_trace
def after(): return float((x @ x).sum())
print(after())
""",
        says="its trace is lost, it ended on another thread",
        left=(".f.open",),
    ),
    "generator-left-open": Scenario(
        code="""
@capture_trace
def f():
    while True:
        x @ x
        yield 1
held = f()
print(next(held))
sys.exit(3)
""",
        traces={"f": "closed"},
        status=3,
    ),
    "forked-children-exit": Scenario(
        code="""
def child():
    own = os.fork()
    if own == 0:
        for _ in range(1000): torch.ones(3) * 2
        sys.exit(3)
    return os.waitpid(own, 0)[1]
@capture_trace(with_stack=True)
def f():
    x @ x
    return child()
print(f())
print(child())
""",
        traces={"f": "return"},
    ),
    "async-generator": Scenario(
        code="""
@capture_trace
async def f():
    for i in range(3):
        x @ x
        yield i
async def main(): return [i async for i in f()]
print(asyncio.run(main()), inspect.isasyncgenfunction(f))
""",
        traces={"f": "return"},
    ),
    "methods": Scenario(
        code="""
class A:
    @capture_trace("m")
    def m(self): return float((x @ x).sum())
    @classmethod
    @capture_trace("c")
    def c(cls): return cls.__name__, float((x @ x).sum())
    @capture_trace("c2")
    @classmethod
    def c2(cls): return cls.__name__, float((x @ x).sum())
    @staticmethod
    @capture_trace("s")
    def s(): return float((x @ x).sum())
    @capture_trace("s2")
    @staticmethod
    def s2(): return float((x @ x).sum())
    @property
    @capture_trace("p")
    def p(self): return float((x @ x).sum())
print(A().m(), A.c(), A().c2(), A.s(), A().s2(), A().p)
class M(torch.nn.Module):
    @capture_trace("forward")
    def forward(self, y): return y @ x
print(float(M()(x).sum()))
for thing in (M(), M, A, property(lambda self: 0)):
    try: capture_trace()(thing)
    except TypeError as error: print(error)
""",
        traces=dict.fromkeys(("m", "c", "c2", "s", "s2", "p", "forward"), "return"),
    ),
    "callables": Scenario(
        code="""
import pickle
class Call:
    "An object."
    kept = 3
    def __call__(self, y): return float((y @ x).sum())
    def other(self): return "other"
class Later:
    async def __call__(self): return float((x @ x).sum())
def plain(y): return float((y @ x).sum())
partial = capture_trace("partial")(functools.partial(plain, x))
thing = capture_trace("thing")(Call())
cached = capture_trace("cached")(functools.lru_cache(plain))
later = capture_trace("later")(Later())
mm = capture_trace("builtin")(torch.mm)
thing.kept = 4
print(partial(), partial.func is plain, thing(x), thing.kept, thing.other(), isinstance(thing, Call))
print(thing.__doc__)
print(cached(x), cached(x), cached.cache_info().hits, asyncio.run(later()), float(mm(x, x).sum()))
print(type(pickle.loads(pickle.dumps(thing))).__name__, callable(thing))
""",
        traces=dict.fromkeys(("partial", "thing", "cached", "cached.2", "later", "builtin"), "return"),
        holds=(),
    ),
    "threads": Scenario(
        code="""
@capture_trace
def f(i):
    x @ x
    time.sleep(0.05)
    return i
with concurrent.futures.ThreadPoolExecutor(4) as pool: print(list(pool.map(f, range(8))))
""",
        traces={"f": "return"},
        says="a capture outside the main thread is not bounded",
    ),
    "all-threads": Scenario(
        code="""
@capture_trace(all_threads=True)
def f():
    x @ x
    thread = threading.Thread(target=lambda: x * 3)
    thread.start()
    thread.join()
    return 1
print(f())
""",
        traces={"f": "return"},
        holds=("aten::mm", "aten::mul"),
    ),
    "fork": Scenario(
        code="""
@capture_trace
def inner(): return torch.ones(3) * 2
@capture_trace
def f():
    x @ x
    child = os.fork()
    if child == 0:
        inner()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    return os.waitpid(child, 0)[1]
print(f())
""",
        traces={"f": "return"},
        says="this process was forked from one that was being traced",
    ),
    "children": Scenario(
        code="""
import multiprocessing
@capture_trace("work")
def work(i):
    torch.ones(3, 3) @ torch.ones(3, 3)
    return i
if __name__ == "__main__":
    print(work(1))
    with multiprocessing.get_context("fork").Pool(1) as pool: print(pool.map(work, [1, 2]))
    again = "from chisel import capture_trace; import torch;" \\
        "print(float(capture_trace('work')(lambda: (torch.ones(3, 3) @ torch.ones(3, 3)).sum())()))"
    subprocess.run([sys.executable, "-c", again], check=True)
""",
        traces={"work": "return", "work.pid1": "return", "work.pid1.2": "return", "work.pid2": "return"},
    ),
    "workers": Scenario(
        code="""
class Data(torch.utils.data.Dataset):
    def __len__(self): return 8
    @capture_trace("item")
    def __getitem__(self, i): return torch.full((2,), float(i))
@capture_trace
def f():
    loader = torch.utils.data.DataLoader(Data(), batch_size=4, num_workers=2)
    x @ x
    return float(sum(batch.sum() for batch in loader))
print(f())
""",
        traces={"f": "return"},
        errors=3,
    ),
    "ranks": Scenario(
        code="""
import torch.multiprocessing as mp
@capture_trace("step")
def step(): return float((torch.ones(3, 3) @ torch.ones(3, 3)).sum())
@capture_trace("first", ranks="0")
def first(): return float((torch.ones(3, 3) @ torch.ones(3, 3)).sum())
def rank(own, folder):
    if own: os.environ.update(RANK=str(own), WORLD_SIZE="2")  # torchrun; the other way for rank 0
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=own, world_size=2)
    step(), step(), first()
    torch.distributed.barrier()
if __name__ == "__main__":
    import tempfile
    with tempfile.TemporaryDirectory() as folder: mp.start_processes(rank, (folder,), 2, start_method="fork")
    print("both")
""",
        traces={
            "step.rank0": "return",
            "step.rank0.2": "return",
            "step.rank1": "return",
            "step.rank1.2": "return",
            "first.rank0": "return",
        },
    ),
    "quotes": Scenario(
        code="""
exec(compile("def odd():\\n  x @ x", 'we"ird.py', "exec"))
@capture_trace(with_stack=True)
def f():
    odd()
    for name in ('say "hi"', '"', 'end",', '{"ph": "X"}'):
        with torch.profiler.record_function(name): x @ x
    return 1
print(f())
""",
        traces={"f": "return"},
        holds=("aten::mm", 'say "hi"', '"', 'end",', '{"ph": "X"}', 'we"ird.py(1): odd'),
    ),
    "names": Scenario(
        code="""
for name in ("../../etc/passwd", "a/b\\\\c", "", "..", "ü x", "x" * 300, "con:aux*?", "m.meta", 'say "hi"'):
    capture_trace(name)(lambda: x @ x)()
print("named")
""",
        traces=dict.fromkeys(
            ("etc_passwd", "a_b_c", "lambda", "trace", "x", "x" * 100, "con_aux", "m_meta", "say_hi"),
            "return",
        ),
    ),
    "compiled": Scenario(
        code="""
@capture_trace
def f(y): return (y @ y).sum()
print(float(torch.compile(f, backend="eager", fullgraph=True)(x)), float(f(x)))
""",
        traces={"f": "return"},
    ),
    "full-disk": Scenario(
        code="""
import resource
@capture_trace
def f():
    for _ in range(300): x @ x
    return 1
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
print(f())
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 20_000))
print(f())
""",
        says="its trace is not saved",
        errors=2,
    ),
    "no-folder": Scenario(
        code="""
@capture_trace
def f(): return float((x @ x).sum())
print(f(), f())
""",
        folder="/dev/null/traces",
        says="f is not traced:",
        errors=1,
    ),
    "no-torch": Scenario(
        before=BARE,
        code="""
sys.modules["torch"] = None
@capture_trace
def f(): return 1
print(f(), f())
""",
        says="f is not traced: import of torch halted",
        errors=1,
    ),
    "broken-torch": Scenario(
        before=BARE,
        code="""
import types
sys.modules["torch"] = types.ModuleType("torch")
@capture_trace
def f(): return 1
print(f(), f())
""",
        says="f is not traced:",
        errors=1,
    ),
    "no-stderr": Scenario(
        code="""
os.close(2)
@capture_trace
def f(): return float((x @ x).sum())
print(f(), flush=True)
os._exit(0)
""",
        traces={"f": "return"},
        errors=0,
    ),
    "died-inside": Scenario(
        code="""
@capture_trace("last words")
def f():
    x @ x
    print("here", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
f()
""",
        status=-9,
        left=(".last_words.open",),
    ),
}
