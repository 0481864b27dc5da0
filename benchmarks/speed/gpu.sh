#!/usr/bin/env bash
# Measures a GPU in under 8 minutes, from a bare checkout: ours on JAX beside PyTorch.
#
#     bash benchmarks/speed/gpu.sh [--json gpu.json]
#
# It needs Keras, JAX and PyTorch, but no TensorFlow. PYTHON names the interpreter. What the time
# does not reach is measured when it is called again with the same file.
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" KERAS_BACKEND=jax
exec timeout 475 "${PYTHON:-python3}" "$root/benchmarks/speed/gpu.py" "$@"
