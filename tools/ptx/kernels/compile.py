#!/usr/bin/env python3
"""Compiles the kernels of this folder to PTX for sm_80; no GPU is needed.

    python3 compile.py [NAME...]      all kernels, or those whose files are named so

Triton 3.9 compiles `triton/*.py`, NVRTC 12.9 `cuda/*.cu`, clang 19 `clang/*.cu`:

    pip install triton==3.9.0 nvidia-cuda-nvrtc-cu12==12.9.86 nvidia-cuda-runtime-cu12==12.9.79
    apt-get install clang-19

Each goes to `ptx/NAME.ptx`, as the compiler wrote it but for a head that says how to launch it, paths without folders, and sections
for debuggers, which are left out.
"""

import ctypes
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

ATTENTION = {"D": 32, "M": 32, "N": 32}
TILES = {"M": 32, "N": 32, "K": 32}
BACKWARD = "*bf16 *bf16 *bf16 *bf16 *fp32 *fp32"

# file name: source, function, types of the arguments, constants, options
TRITON = {
    "attention_forward": ("attention", "attention_forward", "*bf16 *bf16 *bf16 *bf16 *fp32 i32 i32 fp32", ATTENTION, {"num_warps": 2, "num_stages": 2}),
    "attention_backward_kv": ("attention", "attention_backward_kv", BACKWARD + " *fp32 *fp32 i32 i32 fp32", ATTENTION, {"num_warps": 2, "num_stages": 2}),
    "attention_backward_q": ("attention", "attention_backward_q", BACKWARD + " *fp32 i32 i32 fp32", ATTENTION, {"num_warps": 2, "num_stages": 1}),
    "softmax": ("rows", "softmax", "*fp32 *fp32 i32", {"N": 512}, {"num_warps": 4}),
    "layer_norm_forward": ("rows", "layer_norm_forward", "*fp16 *fp32 *fp32 *fp16 *fp32 *fp32 i32 fp32", {"N": 256}, {"num_warps": 2}),
    "layer_norm_backward": ("rows", "layer_norm_backward", "*fp16 *fp32 *fp32 *fp32 *fp16 *fp16 *fp32 *fp32 *i32 i32", {"N": 256}, {"num_warps": 2}),
    "cross_entropy": ("rows", "cross_entropy", "*bf16 *i64 *fp32 *bf16 i32", {"N": 512}, {"num_warps": 2}),
    "argmax": ("rows", "argmax", "*fp32 *i32 *i32", {"N": 256}, {"num_warps": 2}),
    "sort": ("rows", "sort", "*i32 *i32", {"N": 128}, {"num_warps": 2}),
    "recurrence": ("scans", "recurrence", "*fp32 *fp32 *fp32 i32", {"N": 128}, {"num_warps": 2}),
    "running": ("scans", "running", "*i32 *i32 *i32 *fp32", {"N": 64, "ROWS": 4}, {"num_warps": 2}),
    "product_bf16": ("products", "product", "*bf16 *bf16 *fp32 i32 i32 i32", TILES | {"PRECISION": "ieee", "SUM": "float32"}, {"num_warps": 2, "num_stages": 3}),
    "product_f16": ("products", "product", "*fp16 *fp16 *fp16 i32 i32 i32", TILES | {"PRECISION": "ieee", "SUM": "float16"}, {"num_warps": 2, "num_stages": 1}),
    "product_tf32": ("products", "product", "*fp32 *fp32 *fp32 i32 i32 i32", TILES | {"PRECISION": "tf32", "SUM": "float32"}, {"num_warps": 2, "num_stages": 2}),
    "product_f32": ("products", "product", "*fp32 *fp32 *fp32 i32 i32 i32", {"M": 16, "N": 16, "K": 16, "PRECISION": "ieee", "SUM": "float32"}, {"num_warps": 1, "num_stages": 1}),
    "product_s8": ("products", "product", "*i8 *i8 *i32 i32 i32 i32", TILES | {"PRECISION": "ieee", "SUM": "int32"}, {"num_warps": 2, "num_stages": 1}),
    "product_split": ("products", "product_split", "*bf16 *bf16 *fp32 i32 i32 i32", TILES | {"SPLIT": 2}, {"num_warps": 2, "num_stages": 3}),
    "product_persistent": ("products", "product_persistent", "*bf16 *bf16 *bf16 i32 i32 i32", TILES, {"num_warps": 2, "num_stages": 3}),
    "dropout": ("elements", "dropout", "*fp32 *fp32 i32 fp32 i32", {"N": 256}, {"num_warps": 2}),
    "rope": ("elements", "rope", "*fp16 *fp32 *fp32 *fp16 i32", {"D": 64}, {"num_warps": 1}),
    "histogram_triton": ("elements", "histogram", "*i32 *i32 i32", {"N": 256, "BINS": 64}, {"num_warps": 2}),
    "gather": ("elements", "gather", "*fp32 *i32 *fp32", {"M": 32, "N": 16}, {"num_warps": 2}),
    "transpose": ("elements", "transpose", "*i8 *i8 i32 i32", {"M": 32, "N": 32}, {"num_warps": 2}),
    "functions": ("elements", "functions", "*fp32 *fp32", {"N": 64}, {"num_warps": 2}),
}


def plain(text, head):
    """The text of a compiler without folders and sections for debuggers, under a head of comments."""
    lines, skipping = [], False
    for line in text.rstrip("\0").splitlines():
        if re.match(r"\s*\.section\s+\.debug", line):
            skipping = True
        if not skipping:
            line = re.sub(r'(\.file\s+\d+\s+")[^"]*/([^"/]*")', r"\1\2", line)
            lines.append(line.rstrip())
        elif line.strip() == "}":
            skipping = False
    return "".join(f"// {line}\n" for line in head) + "\n".join(lines).strip("\n") + "\n"


def triton_ptx(name):
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    module, function, types, constants, options = TRITON[name]
    spec = importlib.util.spec_from_file_location(module, HERE / "triton" / f"{module}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    function = getattr(loaded, function)
    constants = {key: getattr(tl, value) if key == "SUM" else value for key, value in constants.items()}
    signature = dict(zip(function.arg_names, types.split())) | {key: "constexpr" for key in constants}
    aligned = {(at,): [["tt.divisibility", 16]] for at, ty in enumerate(types.split()) if ty.startswith("*")}
    # contraction to fused multiply-adds, which later versions leave out by default
    options = options | {"enable_fp_fusion": True}
    source = ASTSource(function, signature, constants, aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options)
    head = [
        f"Made by compile.py from triton/{module}.py with Triton {triton.__version__}.",
        f"Threads: {32 * options['num_warps']}. Dynamic shared memory: {compiled.metadata.shared}.",
    ]
    return plain(compiled.asm["ptx"], head)


def nvrtc_ptx(path):
    import nvidia.cuda_nvrtc
    import nvidia.cuda_runtime

    library = next(Path(nvidia.cuda_nvrtc.__path__[0]).glob("lib/libnvrtc.so.*"))
    nvrtc = ctypes.CDLL(str(library))
    include = Path(nvidia.cuda_runtime.__path__[0]) / "include"
    options = ["--gpu-architecture=compute_80", "--std=c++17", "-lineinfo", f"-I{include}"]
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), path.read_bytes(), path.name.encode(), 0, None, None)
    failed = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*map(str.encode, options)))
    size = ctypes.c_size_t()
    if failed:
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        sys.exit(f"{path.name}: {log.value.decode()}")
    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetPTX(program, text)
    major, minor = ctypes.c_int(), ctypes.c_int()
    nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return plain(text.value.decode(), [f"Made by compile.py from cuda/{path.name} with NVRTC {major.value}.{minor.value}."])


def clang_ptx(path):
    options = "-x cuda --cuda-gpu-arch=sm_80 --cuda-device-only -nocudainc -nocudalib -O2 -S -o - -gline-tables-only"
    features = "-Xclang -target-feature -Xclang +ptx78"
    command = ["clang-19", *options.split(), *features.split(), path.name]
    text = subprocess.run(command, cwd=path.parent, check=True, capture_output=True, text=True).stdout
    version = subprocess.run(["clang-19", "--version"], capture_output=True, text=True).stdout.split()
    return plain(text, [f"Made by compile.py from clang/{path.name} with clang {version[version.index('version') + 1]}."])


def main():
    makers = {name: lambda name=name: triton_ptx(name) for name in TRITON}
    makers |= {path.stem: lambda path=path: nvrtc_ptx(path) for path in sorted((HERE / "cuda").glob("*.cu"))}
    makers |= {path.stem: lambda path=path: clang_ptx(path) for path in sorted((HERE / "clang").glob("*.cu"))}
    wanted = sys.argv[1:] or makers
    unknown = [name for name in wanted if name not in makers]
    if unknown:
        sys.exit(f"no kernel is named {unknown[0]}; there are {', '.join(makers)}")
    for name in wanted:
        text = makers[name]()
        (HERE / "ptx" / f"{name}.ptx").write_text(text)
        print(f"{name}: {text.count(chr(10))} lines")


if __name__ == "__main__":
    main()
