"""Asks a SavedModel through TensorFlow's C API: without TensorFlow's Python, and without Keras.

python c_api.py LIBRARIES SAVED_MODEL REQUEST.json INPUTS.npz OUTPUTS.npz

The request names the graph's tensors, {"inputs": {name: tensor}, "outputs": {name: [tensor, type]}}
with "operation:index" for a tensor. Strings go in and come out as arrays of bytes.
"""

import ctypes
import json
import sys
from pathlib import Path

import numpy as np

FLOAT, INT32, STRING = 1, 3, 7
TYPES = {np.dtype("float32"): FLOAT, np.dtype("int32"): INT32}
STRING_BYTES = 24  # of a TF_TString


class Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


def load(folder):
    framework = ctypes.CDLL(str(folder / "libtensorflow_framework.so.2"), ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(folder / "libtensorflow_cc.so.2"), ctypes.RTLD_GLOBAL)
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    for where, name, result, *arguments in (
        (framework, "TF_NewStatus", pointer),
        (framework, "TF_GetCode", ctypes.c_int, pointer),
        (framework, "TF_Message", text, pointer),
        (framework, "TF_AllocateTensor", pointer, ctypes.c_int, pointer, ctypes.c_int, size),
        (framework, "TF_TensorData", pointer, pointer),
        (framework, "TF_NumDims", ctypes.c_int, pointer),
        (framework, "TF_Dim", ctypes.c_int64, pointer, ctypes.c_int),
        (library, "TF_NewGraph", pointer),
        (library, "TF_NewSessionOptions", pointer),
        (library, "TF_GraphOperationByName", pointer, pointer, text),
        (library, "TF_StringInit", None, pointer),
        (library, "TF_StringCopy", None, pointer, text, size),
        (library, "TF_StringGetDataPointer", pointer, pointer),
        (library, "TF_StringGetSize", size, pointer),
        (
            *(library, "TF_LoadSessionFromSavedModel", pointer, pointer, pointer, text),
            *(ctypes.POINTER(text), ctypes.c_int, pointer, pointer, pointer),
        ),
        (
            *(library, "TF_SessionRun", None, pointer, pointer),
            *(ctypes.POINTER(Output), ctypes.POINTER(pointer), ctypes.c_int),
            *(ctypes.POINTER(Output), ctypes.POINTER(pointer), ctypes.c_int),
            *(pointer, ctypes.c_int, pointer, pointer),
        ),
    ):
        function = getattr(where, name)
        function.restype, function.argtypes = result, arguments
        setattr(library, name, function)
    return library


def check(library, status):
    if code := library.TF_GetCode(status):
        sys.exit(f"code {code}: {library.TF_Message(status).decode()}")


def to_tensor(library, array):
    dimensions = (ctypes.c_int64 * array.ndim)(*array.shape)
    if array.dtype in TYPES:
        kind, size = TYPES[array.dtype], array.nbytes
    else:
        kind, size = STRING, STRING_BYTES * array.size
    tensor = library.TF_AllocateTensor(kind, dimensions, array.ndim, size)
    data = library.TF_TensorData(tensor)
    if kind != STRING:
        ctypes.memmove(data, np.ascontiguousarray(array).ctypes.data, size)
        return tensor
    for index, value in enumerate(array.ravel().tolist()):
        library.TF_StringInit(data + STRING_BYTES * index)
        library.TF_StringCopy(data + STRING_BYTES * index, value, len(value))
    return tensor


def to_array(library, tensor, kind):
    shape = [library.TF_Dim(tensor, axis) for axis in range(library.TF_NumDims(tensor))]
    data, count = library.TF_TensorData(tensor), int(np.prod(shape))
    if kind != STRING:
        return np.frombuffer(ctypes.string_at(data, 4 * count), np.float32).reshape(shape)
    places = [data + STRING_BYTES * index for index in range(count)]
    values = [
        ctypes.string_at(library.TF_StringGetDataPointer(place), library.TF_StringGetSize(place))
        for place in places
    ]
    return np.array(values).reshape(shape)


def main(libraries, saved_model, request, inputs, outputs):
    library = load(Path(libraries))
    status, graph = library.TF_NewStatus(), library.TF_NewGraph()
    tags = (ctypes.c_char_p * 1)(b"serve")
    session = library.TF_LoadSessionFromSavedModel(
        library.TF_NewSessionOptions(), None, saved_model.encode(), tags, 1, graph, None, status
    )
    check(library, status)

    def output(name):
        operation, index = name.split(":")
        found = library.TF_GraphOperationByName(graph, operation.encode())
        return Output(found, int(index))

    request, arrays = json.loads(Path(request).read_text()), np.load(inputs)
    given, wanted = request["inputs"], request["outputs"]
    feeds = (Output * len(given))(*map(output, given.values()))
    values = (ctypes.c_void_p * len(given))(*(to_tensor(library, arrays[name]) for name in given))
    fetches = (Output * len(wanted))(*(output(tensor) for tensor, _ in wanted.values()))
    results = (ctypes.c_void_p * len(wanted))()
    library.TF_SessionRun(
        *(session, None, feeds, values, len(given), fetches, results, len(wanted)),
        *(None, 0, None, status),
    )
    check(library, status)
    found = zip(wanted.items(), results, strict=True)
    np.savez(outputs, **{name: to_array(library, x, kind) for (name, (_, kind)), x in found})
    assert not {"tensorflow", "keras"} & set(sys.modules)


if __name__ == "__main__":
    main(*sys.argv[1:])
