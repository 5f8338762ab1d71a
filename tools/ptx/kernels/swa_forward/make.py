"""Compiles swa_forward.cu to PTX for sm_80 with NVRTC. Needs `pip install nvidia-cuda-nvrtc` and no GPU."""

import ctypes
import glob
import os
import pathlib
import sys

import nvidia

here = pathlib.Path(__file__).parent
libraries = [lib for path in nvidia.__path__ for lib in glob.glob(f"{path}/**/lib/libnvrtc.so.*", recursive=True)]
nvrtc = ctypes.CDLL(sorted(lib for lib in libraries if ".alt." not in lib)[-1])
program = ctypes.c_void_p()
source = (here / "swa_forward.cu").read_bytes()
nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"swa_forward.cu", 0, None, None)
flags = [b"--gpu-architecture=compute_80", b"--std=c++17", b"--generate-line-info"]
status = nvrtc.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
size = ctypes.c_size_t()
nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
log = ctypes.create_string_buffer(size.value)
nvrtc.nvrtcGetProgramLog(program, log)
if status:
    sys.exit(log.value.decode())
nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
ptx = ctypes.create_string_buffer(size.value)
nvrtc.nvrtcGetPTX(program, ptx)
text = ptx.value.replace(f"{os.getcwd()}/".encode(), b"")
(here / "swa_forward.ptx").write_bytes(text.rstrip(b"\n") + b"\n")
