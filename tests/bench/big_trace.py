"""Writes a trace as large and as varied as a real one: an eager transformer on one GPU.

The mix of categories and the length of names and arguments are those of published H100 traces of such models:
of the events, half are Python frames, a fifth operators, an eighth flows; an event takes about 420 bytes, or
260 where no shapes were recorded.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EPOCH_US = 1419247332000.0
_PID = 19392
_ELEMENTWISE = (
    "void at::native::vectorized_elementwise_kernel<4, at::native::{name}(at::TensorIteratorBase&)::"
    "{{lambda()#{n}}}::operator()() const::{{lambda()#4}}::operator()() const::{{lambda(c10::BFloat16)#1}},"
    " std::array<char*, 2ul> >(int, at::native::{name}(at::TensorIteratorBase&)::{{lambda()#{n}}}::"
    "operator()() const::{{lambda()#4}}::operator()() const::{{lambda(c10::BFloat16)#1}},"
    " std::array<char*, 2ul>)"
)
_GEMM = "void cutlass::Kernel2<{name}>({name}::Params)"
_KERNELS = [
    *(
        _ELEMENTWISE.format(name=f"{name}KernelImpl", n=n)
        for name in ("Gelu", "Add", "Mul")
        for n in range(9)
    ),
    *(
        _GEMM.format(name=f"cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_{a}x{b}_32x{n}_tn_align8")
        for a in (64, 128)
        for b in (64, 128)
        for n in range(3, 6)
    ),
]
_FILES = [
    "torch/nn/modules/module.py({line}): _call_impl",
    "torch/nn/modules/module.py({line}): _wrapped_call_impl",
    "transformers/models/owlv2/modeling_owlv2.py({line}): forward",
    "torch/nn/modules/linear.py({line}): forward",
    "nn.Module: Owlv2EncoderLayer_{line}",
    "<built-in method linear of type object at 0x7fb5d0b8c{line}>",
]
_OPS = ("aten::linear", "aten::t", "aten::transpose", "aten::as_strided", "aten::addmm")
_ROUND = {True: 25, False: 13}
"""How many events one module call makes, with and without Python frames."""


def write(path: Path, *, events: int, python: bool = True, shapes: bool = True, seed: int = 1) -> None:
    """About `events` of them. Deterministic."""
    properties = [{"id": 0, "name": "NVIDIA H100 80GB HBM3", "totalGlobalMem": 85018279936, "numSms": 132}]
    head = {"schemaVersion": 1, "deviceProperties": properties, "with_stack": int(python)}
    tail = {"traceName": "trace.json", "displayTimeUnit": "ms", "baseTimeNanoseconds": 1751410836000000000}
    with path.open("w") as file:
        file.write(json.dumps(head)[:-1] + ', "traceEvents": [\n')
        for number, event in enumerate(_events(events, python, shapes, random.Random(seed))):
            file.write(("  ,\n  " if number else "  ") + json.dumps(event))
        file.write("\n  ],\n" + json.dumps(tail)[1:])


def _events(wanted: int, python: bool, shapes: bool, chance: random.Random) -> Iterator[dict[str, Any]]:
    cpu, gpu, allocated = EPOCH_US, EPOCH_US, 500 << 20
    rounds = wanted // _ROUND[python]
    # Without the short Python frames, shorter ones keep the mean size of an event.
    inputs = _shapes(3 if python else 2) if shapes else {}
    yield _event("user_annotation", "ProfilerStep#6", cpu, rounds * 400.0, {"External id": 1})
    for call in range(rounds):
        if python:
            yield from _frames(call, cpu)
        for depth, name in enumerate(_OPS):
            args = {"External id": call * 8 + depth, "Record function id": 0, "Ev Idx": call * 9 + depth}
            yield _event("cpu_op", name, cpu + 20 + 10 * depth, 300.0 - 40 * depth, args | inputs)
        launch = cpu + 75
        if call % 2:
            yield _event(
                "cuda_runtime", "cudaFuncGetAttributes", launch - 4, 2.0, {"cbid": 15, "correlation": call}
            )
        correlation = 10_000_000 + call
        yield _event(
            "cuda_runtime", "cudaLaunchKernel", launch, 6.25, {"cbid": 211, "correlation": correlation}
        )
        yield _flow("s", correlation, _PID, _PID, launch)
        gpu = max(gpu, launch + 5) + (40.0 if chance.random() < 0.02 else 0.0)
        dur = round(2 + chance.random() * 300, 3)
        name = _KERNELS[call * 11 % len(_KERNELS)]
        yield _event("kernel", name, gpu, dur, _kernel(correlation, 1 + call * 37 % 64), pid=0, tid=7)
        yield _flow("f", correlation, 0, 7, gpu)
        if call % 2:
            yield _flow("f", call, _PID, _PID, launch)
        gpu += dur
        for change in (1204224, -1204224 if call % 50 else -1200000):
            allocated += change
            yield _memory(cpu + 100 + (change < 0) * 150, change, allocated)
        cpu += 400


def _frames(call: int, at: float) -> Iterator[dict[str, Any]]:
    for depth in range(12):
        name = _FILES[depth % len(_FILES)].format(line=100 + (call * 7 + depth * 13) % 700)
        number = call * 12 + depth
        args = {"Python parent id": number, "Python id": number + 1, "Ev Idx": number}
        if name.startswith("nn.Module"):
            args["Python module id"] = 3
        yield _event("python_function", name, at + depth, 390.0 - 2 * depth, args)


def _event(
    cat: str, name: str, ts: float, dur: float, args: dict[str, Any], *, pid: int = _PID, tid: int = _PID
) -> dict[str, Any]:
    event = {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid}
    return event | {"ts": round(ts, 3), "dur": dur, "args": args}


def _flow(phase: str, identity: int, pid: int, tid: int, ts: float) -> dict[str, Any]:
    event = {"ph": phase, "id": identity, "pid": pid, "tid": tid, "ts": round(ts, 3)}
    return event | {"cat": "ac2g", "name": "ac2g", "bp": "e"}


def _memory(ts: float, change: int, allocated: int) -> dict[str, Any]:
    args = {"Total Reserved": 3865470566, "Total Allocated": allocated, "Bytes": change}
    args |= {"Addr": 128184607182336, "Device Id": 0, "Device Type": 1, "Ev Idx": 5}
    event = {"ph": "i", "cat": "cpu_instant_event", "s": "t", "name": "[memory]", "pid": _PID, "tid": _PID}
    return event | {"ts": round(ts, 3), "args": args}


def _shapes(times: int) -> dict[str, Any]:
    return {
        "Sequence number": 4021,
        "Fwd thread id": 0,
        "Concrete Inputs": ["", "[4, 3601, 768]", "[0, 0]", "1", "", "", "[768, 1]"] * times,
        "Input type": ["c10::BFloat16", "ScalarList", "ScalarList", "Scalar", "", "", "ScalarList"] * times,
        "Input Strides": [[2765568, 768, 1], [768, 1], [1], [], [], [], []] * times,
        "Input Dims": [[4, 3601, 768], [768, 768], [768], [], [], [], []] * times,
    }


def _kernel(correlation: int, grid: int) -> dict[str, Any]:
    return {
        "External id": correlation,
        "queued": 0,
        "device": 0,
        "context": 1,
        "stream": 7,
        "correlation": correlation,
        "registers per thread": 32,
        "shared memory": 0,
        "blocks per SM": 4.272727,
        "warps per SM": 17.09091,
        "grid": [grid, 1, 1],
        "block": [128, 1, 1],
        "est. achieved occupancy %": 27,
    }
