"""For each rule a trace that it is about, and the nearest one that it is not about."""

from collections.abc import Callable

import pytest

from chisel_shared.traces import frames, hints
from chisel_shared.traces.report import Finding, Summary
from chisel_shared.traces.sidecar import Gpu, Sidecar
from chisel_shared.traces.summary import first_line, summarize
from chisel_shared.traces.waits import ALLOCATION, LOADER, SYNC, wait
from chisel_shared.traces.wording import duration, percent, short_kernel, times
from tests.traces.build import Trace

GEMM = (
    "void cutlass::Kernel2<cutlass_75_wmma_tensorop_bf16_s161616gemm_bf16_32x32_128x2_nn_{align}>(…::Params)"
)


def waiting(gap: float = 50.0, *, kernels: int = 2, dur: float = 50.0) -> Trace:
    """Kernels between which the GPU waits for the CPU."""
    trace = Trace()
    for number in range(kernels):
        at = number * (dur + gap)
        trace.kernel(at, dur, launch=at - 1)
    return trace


def loading(name: str) -> Trace:
    trace = waiting()
    trace.python(name, 60, 30)
    return trace


def allocating(dur: float) -> Trace:
    trace = waiting()
    trace.call("cudaMalloc", 55, dur)
    return trace


def syncing(start: float) -> Trace:
    trace = waiting()
    trace.call("cudaStreamSynchronize", start, 12)
    return trace


def small_kernels(gap: float, kernels: int = 200) -> Trace:
    return waiting(gap, kernels=kernels, dur=5.0)


def optimizer(kernels: int) -> Trace:
    trace = waiting(10.0, kernels=kernels, dur=5.0)
    trace.span("Optimizer.step#AdamW.step", -10, kernels * 15.0)
    return trace


def communicating(comm_start: float) -> Trace:
    trace = Trace()
    trace.kernel(0, 100, launch=0)
    trace.kernel(comm_start, 40, launch=1, stream=20, name="ncclDevKernel_AllReduce_Sum_bf16_RING_LL")
    return trace


def copying(start: float, name: str = "Memcpy HtoD (Pinned -> Device)", dur: float = 10.0) -> Trace:
    trace = Trace()
    trace.kernel(0, 100, launch=0)
    trace.copy(start, dur, launch=1, stream=8, name=name)
    return trace


def kernels(**shares: float) -> Trace:
    """Kernels one after the other, without gaps, by name and time."""
    trace = Trace()
    at = 0.0
    for name, dur in shares.items():
        trace.kernel(at, dur, launch=0, name=name)
        at += dur
    return trace


def attention(fused: str = "") -> Trace:
    trace = kernels(**{"softmax_warp_forward": 30, "gemm": 40, "scores": 30, **({fused: 5} if fused else {})})
    trace.op("aten::bmm", -5, 20)
    return trace


def cpu_only() -> Trace:
    trace = Trace()
    trace.op("aten::mm", 0, 100)
    return trace


def slow_line(dur: float) -> Trace:
    trace = cpu_only()
    trace.python("train.py(7): loop", 0, dur)
    return trace


def gemm(align: str) -> Trace:
    return kernels(**{GEMM.format(align=align): 10, "other": 90})


Case = tuple[Callable[[], Trace], Callable[[], Trace]]
CASES: dict[str, Case] = {
    "slow-line": (lambda: slow_line(60), lambda: slow_line(15)),
    "no-gpu": (cpu_only, waiting),
    "host-bound": (waiting, lambda: waiting(5.0)),
    "sync": (lambda: syncing(40), lambda: syncing(60)),
    "data-loading": (
        lambda: loading("torch/utils/data/dataloader.py(701): __next__"),
        lambda: loading("mydata/loader.py(701): __next__"),
    ),
    "allocation": (lambda: allocating(30), lambda: allocating(1)),
    "small-kernels": (lambda: small_kernels(5), lambda: small_kernels(5, kernels=50)),
    "slow-optimizer": (lambda: optimizer(250), lambda: optimizer(150)),
    "exposed-comm": (lambda: communicating(80), lambda: communicating(50)),
    "exposed-copy": (lambda: copying(100), lambda: copying(50)),
    "pageable-copy": (lambda: copying(50, "Memcpy HtoD (Pageable -> Device)"), lambda: copying(50)),
    "dominant-kernel": (lambda: kernels(a=40, b=30, c=30), lambda: kernels(a=25, b=25, c=25, d=25)),
    "unfused-attention": (attention, lambda: attention("flash_fwd_kernel")),
    "unaligned-matmul": (lambda: gemm("align1"), lambda: gemm("align8")),
    "fp32-matmul": (lambda: kernels(ampere_sgemm_128x64_tn=20, b=80), lambda: kernels(hgemm=20, b=80)),
}


def summary(trace: Trace, sidecar: Sidecar | None = None) -> Summary:
    return summarize(trace.columns(), name="t.json", sidecar=sidecar)


def found(trace: Trace, code: str, sidecar: Sidecar | None = None) -> Finding | None:
    return next((one for one in summary(trace, sidecar).findings if one.code == code), None)


@pytest.mark.parametrize("code", CASES)
def test_a_rule_fires_where_it_should_and_not_beside_it(code: str) -> None:
    fires, does_not = CASES[code]
    finding = found(fires(), code)
    assert finding is not None
    assert finding.text
    assert finding.next_step
    assert all(finding.evidence)
    assert finding.evidence
    assert found(does_not(), code) is None


def test_a_clock_that_was_held_down_is_a_finding_when_it_was_slow_then() -> None:
    def gpu(clock: int, *why: str) -> Sidecar:
        return Sidecar(
            gpus=(Gpu(throttled=why, sm_clock_end_mhz=clock, max_sm_clock_mhz=2000, temperature_c=86),)
        )

    slow = found(waiting(), "throttled", gpu(1000, "thermal"))
    assert slow is not None
    assert slow.us == 50.0  # half of the busy time
    assert slow.evidence == ("because of thermal", "86 °C")
    assert found(waiting(), "throttled", gpu(1950, "thermal")) is None
    assert found(waiting(), "throttled", gpu(1000)) is None
    assert found(waiting(), "throttled") is None


def test_every_rule_has_its_case() -> None:
    assert set(CASES) | {"throttled"} == set(hints.RULES)


@pytest.mark.parametrize(
    ("code", "us"),
    [
        ("host-bound", 50.0),
        ("sync", 50.0),
        ("data-loading", 30.0),
        ("allocation", 30.0),
        ("small-kernels", 199 * 5.0),
        ("slow-optimizer", 250 * 10.0),
        ("exposed-comm", 20.0),
        ("exposed-copy", 10.0),
        ("pageable-copy", 10.0),
        ("dominant-kernel", 40.0),
        ("unfused-attention", 30.0),
        ("unaligned-matmul", 10.0),
        ("fp32-matmul", 20.0),
        ("slow-line", 60.0),
    ],
)
def test_a_finding_costs_what_the_trace_shows(code: str, us: float) -> None:
    finding = found(CASES[code][0](), code)
    assert finding is not None
    assert finding.us == us


def test_findings_are_sorted_by_what_they_cost() -> None:
    trace = syncing(40)
    trace.copy(150, 4, launch=148)
    costs = [finding.us for finding in summary(trace).findings]
    assert len(costs) >= 3
    assert costs == sorted(costs, reverse=True)


# The one line


STACK = (("train.py(10): main", 0.0, 200.0), ("scipy/ndimage/_interpolation.py(739): zoom", 51.0, 48.0))


def test_the_line_names_the_library_and_the_users_line_that_called_it() -> None:
    trace = waiting()
    for frame in STACK:
        trace.python(*frame)
    assert first_line(summary(trace)) == "GPU idle 33 %: waiting for scipy zoom at train.py:10"


def test_the_line_says_after_which_call_the_wait_was() -> None:
    trace = syncing(40)
    for frame in STACK:
        trace.python(*frame)
    line = "GPU idle 33 %: after cudaStreamSynchronize, waiting for scipy zoom at train.py:10"
    assert first_line(summary(trace)) == line


def test_the_line_does_not_blame_one_place_for_what_many_share() -> None:
    trace = waiting()
    for number in range(4):
        trace.python(f"train.py({number}): f{number}", 50 + 12.5 * number, 12.5)
    assert first_line(summary(trace)) == "GPU idle 33 %: waiting for the CPU, 25 % of it in f0 at train.py:0"


def test_the_line_of_a_busy_gpu_names_its_largest_kernel() -> None:
    trace = kernels(**{"void at::native::softmax<4>(int)": 60, "gemm": 40})
    trace.op("aten::_softmax", -1, 5)
    assert first_line(summary(trace)) == "GPU busy 100 %: 60 % of it in softmax (aten::_softmax)"


def test_the_line_of_held_up_ranks_names_communication() -> None:
    assert first_line(summary(communicating(80))).startswith("GPU held up 17 % by communication")


def test_the_line_of_slow_launches() -> None:
    trace = Trace()
    for number in range(3):
        trace.kernel(number * 20.0, 10, launch=number * 0.5)
    assert first_line(summary(trace)) == "GPU idle 40 %: launching takes longer than the kernels run"


def test_the_line_without_gpu_names_the_operator_that_took_the_time() -> None:
    trace = cpu_only()
    trace.op("aten::add", 100, 25)
    assert first_line(summary(trace)) == "no GPU work: aten::mm took 80 % of the operators' CPU time"
    assert "no operator" in first_line(summary(Trace()))


# Words


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("void at::native::elementwise_kernel<4, at::f(int)::{lambda()#1}>(int)", "elementwise_kernel"),
        ("void at::native::(anonymous namespace)::indexSelect<c10::BFloat16, long>(x)", "indexSelect"),
        ("void cutlass::Kernel2<cutlass_80_gemm_align8>(…::Params)", "cutlass_80_gemm_align8"),
        ("ampere_sgemm_128x64_tn", "ampere_sgemm_128x64_tn"),
        ("Memcpy DtoH (Device -> Pinned)", "Memcpy DtoH (Device -> Pinned)"),
        ("", ""),
        ("<>", "<>"),
    ],
)  # fmt: skip
def test_short_names_of_kernels(name: str, short: str) -> None:
    assert short_kernel(name) == short


def test_numbers_in_sentences() -> None:
    assert [duration(us) for us in (0.5, 12.34, 123.4, 1234, 56789, 2.5e6)] == [
        "0.50 µs", "12.3 µs", "123 µs", "1.23 ms", "56.8 ms", "2.50 s",
    ]  # fmt: skip
    assert [percent(share) for share in (0.4732, 0.0521, 0.0996)] == ["47 %", "5.2 %", "10 %"]
    assert (times(1, "run"), times(1200, "run")) == ("1 run", "1,200 runs")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cudaStreamSynchronize", SYNC),
        ("hipDeviceSynchronize", SYNC),
        ("cuCtxSynchronize", SYNC),
        ("aten::item", SYNC),
        ("aten::_local_scalar_dense", SYNC),
        ("cudaMemcpyAsync", None),
        ("cudaLaunchKernel", None),
        ("aten::item_like", None),
        ("enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__", LOADER),
        ("torch/utils/data/dataloader.py(1448): __next__", LOADER),
        ("cudaMalloc", ALLOCATION),
        ("cudaMallocAsync", None),
    ],
)
def test_which_calls_wait(name: str, kind: object) -> None:
    assert wait(name) is kind


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("train.py(3): main", True),
        ("/home/u/project/train.py(3): main", True),
        ("transformers/models/vit/modeling_vit.py(252): forward", True),
        ("/usr/lib/python3/dist-packages/scipy/x.py(1): f", True),
        ("/opt/venv/lib/python3.12/site-packages/torch/nn/modules/module.py(1): f", False),
        ("torch/nn/modules/module.py(1739): _call_impl", False),
        ("threading.py(1032): _bootstrap", False),
        ("/usr/lib/python3.11/json/decoder.py(337): decode", False),
        ("json/decoder.py(337): decode", False),
        ("chisel/trace/wrapping.py(80): call", False),
        ("<frozen importlib._bootstrap>(1176): _find_and_load", False),
        ("<built-in method zoom_shift of module object at 0x7f>", False),
        ("nn.Module: Linear_0", False),
    ],
)
def test_which_frames_are_shown(name: str, shown: bool) -> None:
    assert frames.is_shown(name) is shown
