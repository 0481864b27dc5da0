"""What computes."""

from pathlib import Path

import keras

PROCESSOR = Path("/proc/cpuinfo")
# What processors call the instructions for a precision, x86 and ARM.
INSTRUCTIONS = {
    "mixed_bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
    "mixed_float16": {"avx512_fp16", "amx_fp16", "asimdhp"},
}


def gpus() -> list[str]:
    """Returns the names of the GPUs that the backend can use."""
    if keras.backend.backend() == "torch":  # of which Keras lists no devices
        import torch

        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    # JAX raises an error where it is asked for GPUs and has none.
    return [name for name in keras.distribution.list_devices() if name.startswith("gpu")]


def is_emulated(precision: str) -> bool:
    """Tells whether a precision is many times slower than float32 on what computes.

    It is on a CPU that has no instructions for it; where a CPU does not say what it has (Linux
    lists it), False.

    Args:
        precision: one of `config.PRECISIONS`.
    """
    if precision not in INSTRUCTIONS or gpus() or not PROCESSOR.is_file():
        return False
    return not INSTRUCTIONS[precision] & set(PROCESSOR.read_text().split())
