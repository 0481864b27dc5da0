"""Devices that compute."""

from pathlib import Path

import keras

PROCESSOR = Path("/proc/cpuinfo")
# Names of the instructions for a precision, on x86 and ARM.
INSTRUCTIONS = {
    "mixed_bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
    "mixed_float16": {"avx512_fp16", "amx_fp16", "asimdhp"},
}


def gpus() -> list[str]:
    """Returns the names of the GPUs that the backend can use."""
    if keras.backend.backend() == "torch":  # Keras lists no devices for it
        import torch

        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    # JAX raises an error if it is asked for GPUs and has none.
    return [name for name in keras.distribution.list_devices() if name.startswith("gpu")]


def is_emulated(precision: str) -> bool:
    """Returns whether the CPU emulates a precision, which is many times slower than float32.

    False with a GPU, or where the system does not list the CPU's instructions as Linux does.
    """
    if precision not in INSTRUCTIONS or gpus() or not PROCESSOR.is_file():
        return False
    return not INSTRUCTIONS[precision] & set(PROCESSOR.read_text("utf-8").split())
