"""A program that calls the CUDA driver through ctypes, and knows nothing of the interpreter."""

import ctypes
import sys

cuda = ctypes.CDLL("libcuda.so.1")


def check(code):
    if code != 0:
        name = ctypes.c_char_p()
        cuda.cuGetErrorName(code, ctypes.byref(name))
        sys.exit(f"{name.value.decode()}")


check(cuda.cuInit(0))
device, context = ctypes.c_int(), ctypes.c_void_p()
check(cuda.cuDeviceGet(ctypes.byref(device), 0))
name = ctypes.create_string_buffer(64)
check(cuda.cuDeviceGetName(name, 64, device))
check(cuda.cuCtxCreate_v2(ctypes.byref(context), 0, device))

module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
check(cuda.cuModuleLoad(ctypes.byref(module), b"kernels.ptx"))
check(cuda.cuModuleGetFunction(ctypes.byref(kernel), module, b"axpy"))

n = 1000
x = (ctypes.c_float * n)(*range(n))
y = (ctypes.c_float * n)(*([1.0] * n))
x_there, y_there = ctypes.c_uint64(), ctypes.c_uint64()
for address, values in ((x_there, x), (y_there, y)):
    check(cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(4 * n)))
    check(cuda.cuMemcpyHtoD_v2(address, values, ctypes.c_size_t(4 * n)))

arguments = [y_there, x_there, ctypes.c_float(3.0), ctypes.c_uint32(n)]
pointers = (ctypes.c_void_p * 4)(*[ctypes.cast(ctypes.byref(a), ctypes.c_void_p) for a in arguments])
check(cuda.cuLaunchKernel(kernel, 8, 1, 1, 128, 1, 1, 0, None, pointers, None))
check(cuda.cuCtxSynchronize())
check(cuda.cuMemcpyDtoH_v2(y, y_there, ctypes.c_size_t(4 * n)))
assert list(y) == [3.0 * i + 1.0 for i in range(n)]

if "leak" not in sys.argv:
    check(cuda.cuMemFree_v2(x_there))
check(cuda.cuMemFree_v2(y_there))
check(cuda.cuModuleUnload(module))
if "end" not in sys.argv:
    check(cuda.cuCtxDestroy_v2(context))
print(name.value.decode())
