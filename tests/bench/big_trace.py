"""Writes a trace as large and as varied as a real one: an eager transformer on one GPU, in torch's own layout.

The mix of categories and the size of an event (about 420 bytes) are those of the H100 traces of a published
vision model: of the events, half are Python frames, a fifth operators, an eighth flows.
"""

import random
from collections.abc import Iterator
from pathlib import Path

EPOCH_US = 1419247332000.0
_PID = 19392
_ELEMENTWISE = (
    "void at::native::vectorized_elementwise_kernel<4, at::native::{name}(at::TensorIteratorBase&)::"
    "{{lambda()#{n}}}::operator()() const::{{lambda()#4}}::operator()() const::{{lambda(c10::BFloat16)#1}},"
    " std::array<char*, 2ul> >(int, at::native::{name}(at::TensorIteratorBase&)::{{lambda()#{n}}}::operator()()"
    " const::{{lambda()#4}}::operator()() const::{{lambda(c10::BFloat16)#1}}, std::array<char*, 2ul>)"
)
_GEMM = "void cutlass::Kernel2<{name}>({name}::Params)"
_KERNELS = [
    *(_ELEMENTWISE.format(name=f"{name}KernelImpl", n=n) for name in ("Gelu", "Add", "Mul") for n in range(9)),
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


def write(path: Path, *, events: int, python: bool = True, seed: int = 1) -> None:
    """About `events` of them. Deterministic."""
    with path.open("w") as file:
        file.write('{\n  "schemaVersion": 1,\n  "deviceProperties": [\n    {\n      "id": 0,')
        file.write(' "name": "NVIDIA H100 80GB HBM3", "totalGlobalMem": 85018279936, "numSms": 132\n    }\n  ],\n')
        file.write('  "with_stack": 1, "profile_memory": 1, "record_shapes": 1,\n  "traceEvents": [\n')
        for number, event in enumerate(_events(events, python, random.Random(seed))):
            file.write((",\n" if number else "") + event)
        file.write('\n  ],\n  "traceName": "trace.json",\n  "displayTimeUnit": "ms",\n')
        file.write('  "baseTimeNanoseconds": 1751410836000000000\n}\n')


def _events(wanted: int, python: bool, chance: random.Random) -> Iterator[str]:
    cpu, gpu, allocated = EPOCH_US, EPOCH_US, 500 << 20
    rounds = wanted // _ROUND[python]
    yield _event("user_annotation", "ProfilerStep#6", cpu, rounds * 400.0, '"External id": 1')
    for call in range(rounds):
        correlation = 8000 + call
        if python:
            for depth in range(12):
                name = _FILES[depth % len(_FILES)].format(line=100 + (call * 7 + depth * 13) % 700)
                ids = f'"Python parent id": {call * 12 + depth}, "Python id": {call * 12 + depth + 1}, '
                module = '"Python module id": 3, ' if "nn.Module" in name else ""
                yield _event("python_function", name, cpu + depth, 390.0 - 2 * depth, ids + module + _index(depth))
        for depth, name in enumerate(_OPS):
            yield _event("cpu_op", name, cpu + 20 + 10 * depth, 300.0 - 40 * depth, _shapes(call, depth))
        launch = cpu + 75
        grid = 1 + call * 37 % 64
        if call % 2:
            yield _event("cuda_runtime", "cudaFuncGetAttributes", launch - 4, 2.0, f'"cbid": 15, {_index(call)}')
        call_args = f'"External id": {call}, "cbid": 211, "correlation": {correlation}'
        yield _event("cuda_runtime", "cudaLaunchKernel", launch, 6.25, call_args)
        yield _flow("s", correlation, _PID, _PID, launch)
        gpu = max(gpu, launch + 5)
        if chance.random() < 0.02:
            gpu += 40.0
        dur = 2 + chance.random() * 300
        name = _KERNELS[call * 11 % len(_KERNELS)]
        yield _event("kernel", name, gpu, dur, _kernel(correlation, grid), pid=0, tid=7)
        yield _flow("f", correlation, 0, 7, gpu)
        if call % 2:
            yield _flow("f", correlation + 1, _PID, _PID, launch)
        gpu += dur
        for change in (1204224, -1204224 if call % 50 else -1200000):
            allocated += change
            yield _memory(cpu + 100 + (change < 0) * 150, change, allocated)
        cpu += 400


def _event(cat: str, name: str, ts: float, dur: float, args: str, *, pid: int = _PID, tid: int = _PID) -> str:
    return (
        f'  {{\n    "ph": "X", "cat": "{cat}", "name": "{name}", "pid": {pid}, "tid": {tid},\n'
        f'    "ts": {ts:.3f}, "dur": {dur:.3f},\n    "args": {{\n      {args}\n    }}\n  }}'
    )


def _flow(phase: str, identity: int, pid: int, tid: int, ts: float) -> str:
    return (
        f'  {{\n    "ph": "{phase}", "id": {identity}, "pid": {pid}, "tid": {tid}, "ts": {ts:.3f},\n'
        f'    "cat": "ac2g", "name": "ac2g"{", " + chr(34) + "bp" + chr(34) + ": " + chr(34) + "e" + chr(34) if phase == "f" else ""}\n  }}'
    )


def _memory(ts: float, change: int, allocated: int) -> str:
    return (
        f'  {{\n    "ph": "i", "cat": "cpu_instant_event", "s": "t", "name": "[memory]",\n    "pid": {_PID},'
        f' "tid": {_PID}, "ts": {ts:.3f},\n    "args": {{\n      "Total Reserved": 3865470566, "Total Allocated":'
        f' {allocated}, "Bytes": {change}, "Addr": 128184607182336, "Device Id": 0, "Device Type": 1, "Ev Idx": 5\n'
        "    }\n  }"
    )


def _shapes(call: int, depth: int) -> str:
    return (
        f'"External id": {call * 8 + depth}, "Sequence number": {call}, "Fwd thread id": 0, "Record function id": 0,'
        ' "Concrete Inputs": ["", "[4, 3601, 768]", "[0, 0]", "1", "", "", "[768, 1]"], "Input type":'
        ' ["c10::BFloat16", "ScalarList", "ScalarList", "Scalar", "", "", "ScalarList"], "Input Strides":'
        ' [[2765568, 768, 1], [768, 1], [1], [], [], [], []], "Input Dims": [[4, 3601, 768], [768, 768],'
        f" [768], [], [], [], []], {_index(call)}"
    )


def _kernel(correlation: int, grid: int) -> str:
    return (
        f'"External id": {correlation}, "queued": 0, "device": 0, "context": 1,\n      "stream": 7, "correlation":'
        f' {correlation},\n      "registers per thread": 32, "shared memory": 0, "blocks per SM": 4.272727,'
        f' "warps per SM": 17.090910,\n      "grid": [{grid}, 1, 1],\n      "block": [128, 1, 1],\n      "est.'
        ' achieved occupancy %": 27'
    )


def _index(number: int) -> str:
    return f'"Ev Idx": {number}'
