"""The engine's memory figures for metadata alone: `llama_model_init_from_user` makes the tensors itself, none allocated.

Context and compute bytes are what a file with these keys would get; model bytes mean nothing. The product's child script is
named by PROVISION_MEMORY_CHILD; the request is the same, with headers without tensors as paths.
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
    memory.open_engine = lambda: opened
    memory.main()


if __name__ == "__main__":
    sys.exit(main())
