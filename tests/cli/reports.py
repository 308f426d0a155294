"""Reports made by hand, for what shows them: a training step on an H100, slow for a reason."""

from chisel_shared.traces.report import (
    Change,
    Collective,
    DeviceTime,
    Diff,
    Finding,
    Frame,
    Gap,
    GpuTime,
    Idle,
    Kernel,
    Memory,
    MemoryBlock,
    MemoryPoint,
    Op,
    Part,
    Rank,
    Ranks,
    Side,
    Step,
    Summary,
    TraceInfo,
)

MB, GB = 1_000_000, 1_000_000_000

INFO = TraceInfo(
    name="train_step.json", events=132_152,
    truncated=False, repaired=0, wall_us=1_211_000.0, call=1,
    cold=True, rank=0, world_size=2, gpu="NVIDIA H100 80GB HBM3",
    torch="2.7.1+cu128", cuda="12.8", driver="570",
    options=("with_stack",),
)  # fmt: skip
GPU = GpuTime(
    span_us=1_078_300.0, busy_us=566_800.0, compute_us=552_200.0, exposed_comm_us=0.0,
    exposed_copy_us=14_600.0, idle_us=511_500.0, comm_us=0.0, copy_us=20_000.0,
    events=2000, orphans=0, orphan_us=0.0,
)  # fmt: skip
ZOOM = Frame("zoom", "scipy/ndimage/_interpolation.py", 739, 371_000.0)
GAPS = (
    Gap(0, 12_300.0, 126_100.0, "host", ZOOM, ("preprocess image_processing_owlv2.py:301",), ""),
    Gap(0, 300_000.0, 40.0, "launch", None, (), "cudaStreamSynchronize"),
)
SOFTMAX = (
    "void (anonymous namespace)::softmax_warp_forward<c10::BFloat16, c10::BFloat16, float, 10, false>(int)"
)


def kernel(name: str, us: float, count: int, op: str) -> Kernel:
    mean = us / count
    return Kernel(
        name, "compute", (1, 1, 1), (128, 1, 1), op, count, us, mean, mean, mean, mean, us / GPU.busy_us
    )


MEMORY = Memory(
    device="cuda:0", peak_allocated_bytes=2_710 * MB, peak_reserved_bytes=3_600 * MB, peak_at_us=812_000.0,
    start_allocated_bytes=500 * MB, end_allocated_bytes=620 * MB,
    timeline=(
        MemoryPoint(0.0, 500 * MB, GB),
        MemoryPoint(400_000.0, 1_500 * MB, 2 * GB),
        MemoryPoint(812_000.0, 2_710 * MB, 3_600 * MB),
        MemoryPoint(820_000.0, 620 * MB, 3_600 * MB),
        MemoryPoint(1_200_000.0, 620 * MB, 3_600 * MB),
    ),
    at_peak=(MemoryBlock("aten::empty_strided", 1_626 * MB, 12), MemoryBlock("aten::mm", 1_084 * MB, 3)),
)  # fmt: skip

SUMMARY = Summary(
    trace=INFO,
    gpu=GPU,
    devices=(DeviceTime(0, GPU),),
    idle=Idle(504_700.0, 6_800.0, 0.0, GAPS, (ZOOM,)),
    kernels=(
        kernel(SOFTMAX, 262_800.0, 120, "aten::_softmax"),
        kernel(
            "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_cublas",
            229_000.0, 480, "aten::bmm",
        ),
    ),
    kernels_count=57,
    ops=(
        Op("aten::_softmax", 120, 262_800.0, 9_000.0, 1_200.0, 0.46),
        Op("aten::bmm", 480, 229_000.0, 40_000.0, 31_000.0, 0.40),
    ),
    ops_count=2,
    memory=(MEMORY,),
    steps=(
        Step("ProfilerStep#2", 0.0, 600_000.0, 280_000.0),
        Step("ProfilerStep#3", 6e5, 611_000.0, 286_000.0),
    ),
    findings=(
        Finding(
            "host-bound", "The GPU waits for Python: 98.7 % of its idle time",
            ("scipy/ndimage/_interpolation.py(739) zoom ← image_processing_owlv2.py(301)",),
            "Resize on the GPU, or in DataLoader workers.", 504_700.0,
        ),
        Finding("hot-kernel", "softmax is 46 % of GPU time", (), "", 262_800.0),
    ),
)  # fmt: skip


def part(name: str, a: float, b: float, verdict: str, *, kind: str = "op", calls: float = 10.0) -> Part:
    change = (b - a) / a if a else None
    return Part(
        name=name, kind=kind, grid=(), block=(), op="", matched_by="launch", a_count=calls, b_count=calls,
        a_us=a, b_us=b, delta_us=b - a, count_us=0.0, mean_us=b - a, change=change, verdict=verdict, p=0.001,
    )  # fmt: skip


DIFF = Diff(
    a=Side((INFO,), 34_890.0, GPU),
    b=Side((INFO,), 33_130.0, GPU),
    wall_change=-0.0504,
    verdict="faster",
    p=None,
    basis="indicative: 1 capture each",
    warnings=("the GPU differs: H100 in A, MI300X in B",),
    changes=(
        Change("compute", 30_000.0, 27_840.0, -2_160.0),
        Change("exposed comm", 0.0, 0.0, 0.0),
        Change("idle: host", 4_890.0, 5_290.0, 400.0),
    ),
    kernels=(part(SOFTMAX, 262.8, 262.9, "same", kind="compute"),),
    ops=(
        part("aten::mul", 6_740.0, 4_530.0, "faster"),
        part("aten::mm", 6_660.0, 8_650.0, "slower"),
        part("aten::relu", 10.0, 10.1, "same"),
        part("aten::gelu", 0.0, 120.0, "new"),
    ),
    matched=20,
    only_a=0,
    only_b=1,
)

RANKS = Ranks(
    ranks=tuple(
        Rank(rank, f"step.rank{rank}.json", 1_000_000.0, GPU, 40, wait, last)
        for rank, wait, last in ((0, 90_000.0, 1), (1, 500.0, 38), (2, 88_000.0, 1))
    ),
    collectives=(Collective("allreduce", "default", 25_557_032, 40, 178_500.0, 21_000.0),),
    straggler=1,
    unmatched=2,
    notes=("2 collectives have no partner: a trace began later or ended earlier",),
)
