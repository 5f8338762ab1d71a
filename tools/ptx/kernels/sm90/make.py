"""Compiles the kernels of this folder to PTX with Triton and NVRTC, for sm_90. No GPU is needed.

usage: python make.py [name ...]
"""

import pathlib
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import attention
import products

HERE = pathlib.Path(__file__).resolve().parent
SITE = pathlib.Path(triton.__file__).resolve().parent.parent
TARGET = GPUTarget("cuda", 90, 32)


def types(names, *kinds):
    return dict(zip(names.split(), kinds))


def product(kind, out="fp32", **constants):
    signature = types("a_ptr b_ptr c_ptr M N K", f"*{kind}", f"*{kind}", f"*{out}", "i32", "i32", "i32")
    return signature, {"BM": 64, "BN": 64, "BK": 64, **constants}


def tile(kind, *shape):
    return f"tensordesc<{kind}[{', '.join(map(str, shape))}]>"


def described(kind, out, names, bm, bn, bk, **constants):
    signature = types("a b c", tile(kind, bm, bk), tile(kind, bn, bk), tile(out, bm, bn))
    signature.update({name: "i32" for name in names.split()})
    return signature, {"BM": bm, "BN": bn, "BK": bk, **constants}


def batches(kind, size):
    signature = types("a b c K", *[tile(t, 1, size, size) for t in (kind, kind, "fp32")], "i32")
    return signature, {"BM": size, "BN": size, "BK": size}


def heads(kind, bm, bn, d, causal):
    kinds = [tile(kind, bm, d), tile(kind, bn, d), tile(kind, bn, d), tile(kind, bm, d), "fp32", "i32"]
    return types("q k v o scale T", *kinds), {"CAUSAL": causal, "D": d, "BM": bm, "BN": bn}


# name: kernel, (signature, constants), options
KERNELS = {
    "product_bf16": (products.pointers, product("bf16", ROW_B=True), {"num_stages": 3}),
    "product_f16": (products.pointers, product("fp16", "fp16", ROW_B=False, BM=128, BN=128), {"num_warps": 8}),
    "product_tf32": (products.pointers, product("fp32", ROW_B=False, BK=32), {}),
    "product_e4m3": (products.pointers, product("fp8e4nv", ROW_B=False), {}),
    "product_e5m2": (products.pointers, product("fp8e5", ROW_B=False), {}),
    "product_s8": (products.pointers, product("i8", "i32", ROW_B=False), {}),
    "product_small_e5m2": (products.pointers, product("fp8e5", ROW_B=False, BM=32, BN=32), {}),
    "product_columns": (products.columns, product("bf16", HALF=False), {}),
    "product_registers": (products.columns, product("bf16", HALF=True), {}),
    "product_cluster": (products.pointers, product("bf16", ROW_B=True, BM=128), {"num_ctas": 2}),
    "product_halves": (products.halves, product("fp16", "fp16"), {}),
    "described_bf16": (products.described, described("bf16", "fp32", "K", 128, 128, 64), {"num_warps": 8}),
    "described_e4m3": (products.described, described("fp8e4nv", "bf16", "K", 64, 64, 128), {}),
    "described_tf32": (products.described, described("fp32", "fp32", "K", 64, 32, 32), {}),
    "describes_f16": (products.describes, product("fp16", "fp16", BN=32), {}),
    "batched": (products.batched, batches("bf16", 64), {}),
    "persistent": (products.persistent, described("bf16", "bf16", "M N K", 64, 128, 64, SPECIALIZE=False), {}),
    "specialized": (products.persistent, described("bf16", "bf16", "M N K", 64, 64, 64, SPECIALIZE=True), {}),
    "attention": (attention.forward, heads("bf16", 64, 64, 64, False), {}),
    "attention_causal": (attention.forward, heads("fp16", 128, 64, 128, True), {"num_warps": 8, "num_stages": 2}),
}


def compile(name):
    kernel, (signature, constants), options = KERNELS[name]
    signature = {**signature, **{key: "constexpr" for key in constants}}
    # pointers are aligned to 16 bytes, sizes are multiples of 16
    names = kernel.arg_names
    attributes = {(names.index(key),): [["tt.divisibility", 16]] for key, kind in signature.items() if kind[0] == "*" or kind == "i32"}
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=TARGET, options=options)


def checked(result):
    error, *values = result
    if error:
        raise RuntimeError(error)
    return values[0] if values else None


def compile_cuda(name):
    """CUDA C++ with NVRTC 13."""
    from cuda.bindings import nvrtc

    source = (HERE / f"{name}.cu").read_bytes()
    options = [b"--gpu-architecture=compute_90a", b"-lineinfo"]
    program = checked(nvrtc.nvrtcCreateProgram(source, f"{name}.cu".encode(), 0, [], []))
    if nvrtc.nvrtcCompileProgram(program, len(options), options)[0]:
        log = b" " * checked(nvrtc.nvrtcGetProgramLogSize(program))
        checked(nvrtc.nvrtcGetProgramLog(program, log))
        raise RuntimeError(log.decode())
    text = b" " * checked(nvrtc.nvrtcGetPTXSize(program))
    checked(nvrtc.nvrtcGetPTX(program, text))
    (HERE / f"{name}.ptx").write_text(text.rstrip(b"\0").decode().replace(f"{pathlib.Path.cwd()}/", ""))
    print(name)


def main():
    for name in sys.argv[1:] or [*KERNELS, "pipeline"]:
        if name == "pipeline":
            compile_cuda(name)
            continue
        compiled = compile(name)
        # without the sections for debuggers, which name folders of this machine
        text = compiled.asm["ptx"].split("\t.section")[0].replace(f"{HERE}/", "").replace(f"{SITE}/", "")
        (HERE / f"{name}.ptx").write_text(text)
        meta = compiled.metadata
        print(f"{name}: {32 * meta.num_warps} threads, {meta.shared} bytes of shared memory, scratch {meta.global_scratch_size}")
        for tensor in meta.tensordesc_meta:
            print("  ", tensor["block_size"], "swizzle", tensor["swizzle"])


if __name__ == "__main__":
    main()
