"""The GPUs a job can ask for."""

from chisel import GPUType

offered = (
    GPUType.A100_80GB_1,  # Single A100-80GB GPU
    GPUType.A100_80GB_2,  # 2x A100-80GB GPUs
    GPUType.A100_80GB_4,  # 4x A100-80GB GPUs
    GPUType.A100_80GB_8,  # 8x A100-80GB GPUs
)

if __name__ == "__main__":
    for gpu in offered:
        print(f"{gpu.name} = {gpu.value}")
    assert GPUType.A100_80GB_4.value == "A100-80GB:4"
    assert set(offered) == set(GPUType)
