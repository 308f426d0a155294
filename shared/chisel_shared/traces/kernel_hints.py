"""Rules about what GPUs run."""

import re
from collections import defaultdict
from collections.abc import Iterable

from chisel_shared.traces.facts import Facts
from chisel_shared.traces.report import Finding, Kernel
from chisel_shared.traces.wording import duration, percent, short_kernel, times

EXPOSED_COMM_SHARE = 0.05
EXPOSED_COPY_SHARE = 0.02
PAGEABLE_SHARE = 0.01
DOMINANT_SHARE = 0.30
ATTENTION_SHARE = 0.10
UNALIGNED_SHARE = 0.02
FP32_SHARE = 0.10
SLOW_CLOCK = 0.90

_UNALIGNED = re.compile(r"(?:gemm|fprop|dgrad|wgrad).*align[124](?!\d)")
_HALF = re.compile(r"bf16|f16|half|h16|s16816|h884|h1688")
_FP32 = re.compile(r"sgemm|simt_f32|ffma|gemm_fp32|f32f32_f32f32_f32")
_SOFTMAX = re.compile(r"[Ss]oft[Mm]ax")
_FUSED_ATTENTION = re.compile(r"flash|Flash|fmha|mem_eff|sdpa|[Aa]ttention")
_PAGEABLE = re.compile(r"[Pp]ageable")


def exposed_comm(facts: Facts) -> Finding | None:
    us = facts.time.exposed_comm_us
    if facts.share(us) < EXPOSED_COMM_SHARE:
        return None
    hidden = 1 - us / facts.time.comm_us
    return Finding(
        code="exposed-comm",
        text=f"Communication holds the GPU up for {duration(us)}, {percent(facts.share(us))} of all.",
        evidence=(
            f"{percent(hidden)} of {duration(facts.time.comm_us)} communication is hidden behind computation",
            *_largest([kernel for kernel in _known(facts) if kernel.kind == "comm"]),
        ),
        next_step="See who arrives last: `chisel trace ranks JOB`. Then overlap: larger buckets in DDP,"
        " prefetch in FSDP, fewer and larger collectives.",
        us=us,
    )


def exposed_copy(facts: Facts) -> Finding | None:
    us = facts.time.exposed_copy_us
    if facts.share(us) < EXPOSED_COPY_SHARE:
        return None
    return Finding(
        code="exposed-copy",
        text=f"Copies hold the GPU up for {duration(us)}, {percent(facts.share(us))} of all.",
        evidence=_largest([kernel for kernel in _known(facts) if kernel.kind == "copy"]),
        next_step="Copy ahead on a stream of its own, from pinned memory with `non_blocking=True`; keep on"
        " the GPU what is used again.",
        us=us,
    )


def pageable_copy(facts: Facts) -> Finding | None:
    found = [kernel for kernel in _named(facts, _PAGEABLE) if kernel.kind == "copy"]
    us = sum(kernel.us for kernel in found)
    if facts.share(us) < PAGEABLE_SHARE:
        return None
    return Finding(
        code="pageable-copy",
        text=f"Copies from or to pageable memory take {duration(us)}; the CPU waits for each of them.",
        evidence=_largest(found),
        next_step="Pin the host side: `DataLoader(pin_memory=True)`, `tensor.pin_memory()`, then"
        " `.to('cuda', non_blocking=True)`.",
        us=us,
    )


def dominant_kernel(facts: Facts) -> Finding | None:
    by_name: dict[str, list[Kernel]] = defaultdict(list)
    for kernel in _known(facts):
        if kernel.kind == "compute":
            by_name[kernel.name].append(kernel)
    if not by_name:
        return None
    found = max(by_name.values(), key=lambda some: sum(kernel.us for kernel in some))
    us = sum(kernel.us for kernel in found)
    share = us / _gpu_us(facts)
    if share < DOMINANT_SHARE:
        return None
    first = max(found, key=lambda kernel: kernel.us)
    count = sum(kernel.count for kernel in found)
    by = f" ({first.op})" if first.op else ""
    return Finding(
        code="dominant-kernel",
        text=f"{short_kernel(first.name)} is {percent(share)} of GPU time{by}.",
        evidence=(
            f"{times(count, 'run')}, {duration(us / count)} each, {duration(us)} in all",
            first.name[:200],
        ),
        next_step="Look at this one first: its data type, its shapes (`record_shapes=True`), a fused or"
        " compiled version of the operator.",
        us=us,
    )


def unfused_attention(facts: Facts) -> Finding | None:
    softmax = [kernel for kernel in _named(facts, _SOFTMAX) if "log" not in kernel.op]
    us = sum(kernel.us for kernel in softmax)
    products = sum(op.gpu_us for op in facts.ops if op.name in ("aten::bmm", "aten::baddbmm"))
    if not products or us / _gpu_us(facts) < ATTENTION_SHARE or _named(facts, _FUSED_ATTENTION):
        return None
    return Finding(
        code="unfused-attention",
        text=f"Softmax between batched products takes {percent(us / _gpu_us(facts))} of GPU time:"
        " attention is not fused.",
        evidence=(f"aten::bmm {duration(products)}", *_largest(softmax)),
        next_step="Use `torch.nn.functional.scaled_dot_product_attention`, in transformers"
        " `attn_implementation='sdpa'`.",
        us=us,
    )


def unaligned_matmul(facts: Facts) -> Finding | None:
    found = [kernel for kernel in _named(facts, _UNALIGNED) if _HALF.search(kernel.name)]
    us = sum(kernel.us for kernel in found)
    if us / _gpu_us(facts) < UNALIGNED_SHARE:
        return None
    ops = sorted({kernel.op for kernel in found if kernel.op})
    return Finding(
        code="unaligned-matmul",
        text=f"Half precision products on kernels for unaligned shapes: {duration(us)}"
        + (f" in {', '.join(ops[:3])}." if ops else "."),
        evidence=_largest(found),
        next_step="Pad the inner and outer sizes (hidden, vocabulary, heads) to multiples of 8, or 64.",
        us=us,
    )


def fp32_matmul(facts: Facts) -> Finding | None:
    found = _named(facts, _FP32)
    us = sum(kernel.us for kernel in found)
    if us / _gpu_us(facts) < FP32_SHARE:
        return None
    return Finding(
        code="fp32-matmul",
        text=f"Products in full float32, without tensor cores: {duration(us)},"
        f" {percent(us / _gpu_us(facts))} of GPU time.",
        evidence=_largest(found),
        next_step="If the model allows it: `torch.autocast('cuda', torch.bfloat16)`, or"
        " `torch.set_float32_matmul_precision('high')`.",
        us=us,
    )


def throttled(facts: Facts) -> Finding | None:
    """By the sidecar: the clock at the end of the recording against the highest."""
    gpus = facts.trace.sidecar.gpus if facts.trace.sidecar is not None else ()
    for gpu in gpus:
        clock = gpu.sm_clock_end_mhz or gpu.sm_clock_mhz
        if not gpu.throttled or not clock or not gpu.max_sm_clock_mhz:
            continue
        if clock < SLOW_CLOCK * gpu.max_sm_clock_mhz:
            return Finding(
                code="throttled",
                text=f"The GPU's clock was held down to {clock:,} of {gpu.max_sm_clock_mhz:,} MHz.",
                evidence=(
                    "because of " + ", ".join(gpu.throttled),
                    *([f"{gpu.temperature_c} °C"] if gpu.temperature_c is not None else []),
                ),
                next_step="Compare times with care; ask who runs the machine about power limit and cooling.",
                us=facts.time.busy_us * (1 - clock / gpu.max_sm_clock_mhz),
            )
    return None


def _known(facts: Facts) -> list[Kernel]:
    return [kernel for kernel in facts.kernels if not kernel.orphan]


def _named(facts: Facts, pattern: re.Pattern[str]) -> list[Kernel]:
    known = _known(facts)
    names = {name for name in {kernel.name for kernel in known} if pattern.search(name)}
    return [kernel for kernel in known if kernel.name in names]


def _gpu_us(facts: Facts) -> float:
    """The summed time of the events; infinite for none, so that no share of it is worth anything."""
    return sum(kernel.us for kernel in _known(facts)) or float("inf")


def _largest(kernels: Iterable[Kernel]) -> tuple[str, ...]:
    most = sorted(kernels, key=lambda kernel: -kernel.us)[:3]
    return tuple(
        f"{short_kernel(kernel.name)}: {times(kernel.count, 'run')}, {duration(kernel.mean_us)} each"
        for kernel in most
    )
