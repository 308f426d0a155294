"""What ends a capture: signals, bounds, steps."""

from tests.sdk.scenarios.scenario import Scenario

SCENARIOS = {
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
print(train(), round(float(w.detach().sum()), 3))
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
}
