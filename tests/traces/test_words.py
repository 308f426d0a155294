"""How times, sizes and names read."""

import msgspec
import pytest

from chisel_shared.traces import words
from tests.cli.reports import INFO


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0.0, "0"),
        (0.8404, "0.84 µs"),
        (812.44, "812 µs"),
        (2_190.0, "2.19 ms"),
        (1_211_000.0, "1.21 s"),
    ],
)
def test_a_time_has_the_unit_that_suits_it(us: float, text: str) -> None:
    assert words.time(us) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (999_999, "1.00 MB"), (71_459, "71.46 kB"), (2_710_000_000, "2.71 GB")],
)
def test_a_size_too(count: int, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("part", "text"), [(None, ""), (0.05, "+5.0 %"), (-0.0504, "-5.0 %"), (0.0, "+0.0 %")]
)
def test_a_change_has_its_sign(part: float | None, text: str) -> None:
    assert words.change(part) == text


@pytest.mark.parametrize(("us", "text"), [(400.0, "+400 µs"), (-400.0, "-400 µs"), (0.0, "±0")])
def test_a_difference_has_its_sign(us: float, text: str) -> None:
    assert words.signed(us) == text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("step.json", ("step", None, 1)),
        ("step.json.gz", ("step", None, 1)),
        ("step.3.json", ("step", None, 3)),
        ("step.rank1.json", ("step", 1, 1)),
        ("step.rank12.2.json", ("step", 12, 2)),
        ("step.pid77.json", ("step", None, 1)),
        ("v1.5-model.json", ("v1.5-model", None, 1)),
        ("step", ("step", None, 1)),
    ],
)
def test_a_file_name_says_rank_and_call(name: str, expected: tuple[str, int | None, int]) -> None:
    assert words.base(name) == expected


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("Memcpy HtoD (Pinned -> Device)", "Memcpy HtoD (Pinned -> Device)"),
        ("ncclDevKernel_AllReduce_Sum_f32_RING_LL", "ncclDevKernel_AllReduce_Sum_f32_RING_LL"),
        ("void cutlass::Kernel2<cutlass_80_gemm>(cutlass_80_gemm::Params)", "cutlass_80_gemm"),
        ("void at::native::(anonymous namespace)::layer_norm_kernel<float>(int, float)", "layer_norm_kernel"),
        (
            "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<at::native::"
            "CUDAFunctor_add<float> >(at::TensorIteratorBase&)>(int)",
            "elementwise_kernel<CUDAFunctor_add>",
        ),
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::tanh_kernel_cuda(at::X&)>(int)",
            "vectorized_elementwise_kernel<tanh_kernel_cuda>",
        ),
        ("<unnamed>", "<unnamed>"),
        ("", ""),
        ("void elementwise_kernel<4>(int)", "elementwise_kernel"),
    ],
)  # fmt: skip
def test_a_kernel_is_called_what_tells_it_from_others(name: str, short: str) -> None:
    assert words.kernel(name) == short


def test_what_is_too_long_loses_its_middle() -> None:
    assert words.cut("abcdefghij", 10) == "abcdefghij"
    assert words.cut("abcdefghij", 7) == "abcd…ij"
    assert words.cut("abcdefghij", 2) == "abcdefghij"


def test_the_facts_of_a_trace_leave_out_what_nobody_knows() -> None:
    assert words.facts(INFO)[:3] == ["train_step", "call 1 (cold)", "rank 0 of 2"]
    bare = msgspec.structs.replace(INFO, gpu="", torch="", rank=None, call=2, cold=False, name="step.2.json")
    assert words.facts(bare) == ["step", "call 2", "132,152 events"]
