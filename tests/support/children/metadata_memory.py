"""The engine's memory figures for metadata alone: `llama_model_init_from_user` makes the tensors itself, none allocated.

Context and compute bytes are what a file with these keys would get; model bytes mean nothing. The product's child script is
named by PROVISION_MEMORY_CHILD; the request is the same, with headers without tensors as paths. The answer has one thing more,
`tensors`: name and dimensions of every weight that the engine's own graph of the last model reads.
"""

import ctypes
import importlib.util
import os
import sys


class GgufInit(ctypes.Structure):
    _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]


SET_DATA = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


@SET_DATA
def leave_empty(tensor, data):
    pass


RESERVE = "_Z19llama_graph_reserveP13llama_contextjjj"
# struct ggml_cgraph (ggml/src/ggml-impl.h) and struct ggml_tensor (ggml/include/ggml.h), ggml 0.25.3, 64-bit.
N_LEAFS, LEAFS, NE, NAME = 8, 40, 16, 256


def weights(lib, context):
    """The leafs of the graph that are weights, by the names llama.cpp gives them."""
    reserve = getattr(lib, RESERVE)
    reserve.restype, reserve.argtypes = ctypes.c_void_p, [ctypes.c_void_p] + [ctypes.c_uint32] * 3
    graph = reserve(context, 8, 1, 8)
    leafs = ctypes.c_uint64.from_address(graph + LEAFS).value
    found = []
    for index in range(ctypes.c_int32.from_address(graph + N_LEAFS).value):
        tensor = ctypes.c_uint64.from_address(leafs + 8 * index).value
        name = ctypes.string_at(tensor + NAME).decode()
        if name.endswith((".weight", ".bias")):
            dimensions = [ctypes.c_int64.from_address(tensor + NE + 8 * axis).value for axis in range(4)]
            found.append([name, dimensions])
    return found


def main():
    spec = importlib.util.spec_from_file_location("memory", os.environ["PROVISION_MEMORY_CHILD"])
    memory = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(memory)
    opened = memory.open_engine()
    native, lib = opened[0], opened[1]
    lib.gguf_init_from_file.restype, lib.gguf_init_from_file.argtypes = ctypes.c_void_p, [ctypes.c_char_p, GgufInit]
    lib.llama_model_init_from_user.restype = ctypes.c_void_p
    lib.llama_model_init_from_user.argtypes = [ctypes.c_void_p, SET_DATA, ctypes.c_void_p, native.llama_model_params]

    def load(path, parameters):
        header = lib.gguf_init_from_file(path, GgufInit(True, None))
        return lib.llama_model_init_from_user(header, leave_empty, None, parameters) if header else None

    native.llama_model_load_from_file = load
    tensors = []

    def breakdown(lib, context, read=memory.breakdown):
        buffers = read(lib, context)
        tensors.extend(one for one in weights(lib, context) if one not in tensors)
        return buffers

    memory.breakdown = breakdown
    memory.say = lambda answer, say=memory.say: say(answer | {"tensors": tensors})
    memory.open_engine = lambda: opened
    memory.main()


if __name__ == "__main__":
    sys.exit(main())
