"""Torch, disks and processes on a bad day."""

from tests.sdk.scenarios.scenario import BARE, Scenario

SCENARIOS = {
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
