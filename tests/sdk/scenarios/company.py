"""Other profilers, threads and processes."""

from tests.sdk.scenarios.scenario import Scenario

SCENARIOS = {
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
import tempfile
with tempfile.TemporaryDirectory() as folder:  # torch renames over what is there, /dev/null with it
    own.export_chrome_trace(f"{folder}/theirs.json")
    print(os.path.getsize(f"{folder}/theirs.json") > 0)
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
}
