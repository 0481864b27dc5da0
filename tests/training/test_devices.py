"""What a CPU computes by itself, and what it emulates."""

import pytest

from mcattn_tf import devices

X86 = "processor : 0\nflags\t\t: fpu avx2 avx512f {}\nbugs\t\t: none\n"
ARM = "processor : 0\nFeatures\t: fp asimd {}\n"


@pytest.mark.parametrize(
    ("processor", "emulated"),
    [
        (X86.format("fma"), {"mixed_bfloat16", "mixed_float16"}),
        (X86.format("avx512_bf16"), {"mixed_float16"}),
        (X86.format("amx_bf16 avx512_fp16"), set()),
        (ARM.format("asimdhp"), {"mixed_bfloat16"}),
        (ARM.format("asimdhp bf16"), set()),
        (None, set()),
    ],
)
def test_a_precision_without_instructions_is_emulated(processor, emulated, tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    if processor:
        path.write_text(processor)
    monkeypatch.setattr(devices, "PROCESSOR", path)
    monkeypatch.setattr(devices, "gpus", lambda: [])
    assert {name for name in devices.INSTRUCTIONS if devices.is_emulated(name)} == emulated
    assert not devices.is_emulated("float32")
    monkeypatch.setattr(devices, "gpus", lambda: ["gpu:0"])
    assert not any(map(devices.is_emulated, devices.INSTRUCTIONS))
