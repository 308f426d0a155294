"""What is decorated, and how its calls end."""

from tests.sdk.scenarios.scenario import Scenario

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
    "exported": Scenario(
        code="""
class M(torch.nn.Module):
    @capture_trace
    def forward(self, y): return (y @ y).sum()
program = torch.export.export(M(), (x,), strict=False)
print([str(node.target) for node in program.graph.nodes], float(M()(x)))
""",
        traces={"forward": "return"},
    ),
    "compiled-by-a-late-torch": Scenario(
        before="from chisel import capture_trace\n",
        code="""
@capture_trace
def f(y): return (y @ y).sum()
import torch
x = torch.ones(8, 8)
print(float(torch.compile(f, backend="eager", fullgraph=True)(x)), float(f(x)))
""",
        traces={"f": "return"},
    ),
}
