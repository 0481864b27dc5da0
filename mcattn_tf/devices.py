"""What computes."""

import keras


def gpus() -> list[str]:
    """Returns the names of the GPUs that the backend can use."""
    if keras.backend.backend() == "torch":  # of which Keras lists no devices
        import torch

        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    # JAX raises an error where it is asked for GPUs and has none.
    return [name for name in keras.distribution.list_devices() if name.startswith("gpu")]
