"""Matrix products: C[M, N] = A[M, K] x B, with B as [K, N] or transposed as [N, K]."""

import triton
import triton.language as tl


@triton.jit
def pointers(
    a_ptr, b_ptr, c_ptr, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, ROW_B: tl.constexpr
):
    """A row-major; B [K, N] row-major if ROW_B, else [N, K] row-major; C f32, f16 or i32."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    a = a_ptr + m[:, None] * K + k[None, :]
    if ROW_B:
        b = b_ptr + k[:, None] * N + n[None, :]
    else:
        b = b_ptr + n[None, :] * K + k[:, None]
    acc = tl.zeros((BM, BN), tl.int32 if c_ptr.dtype.element_ty == tl.int32 else tl.float32)
    for i in range(0, K, BK):
        x = tl.load(a, mask=(m[:, None] < M) & (k[None, :] + i < K), other=0.0)
        y = tl.load(b, mask=(n[None, :] < N) & (k[:, None] + i < K), other=0.0)
        acc = tl.dot(x, y, acc)
        a += BK
        b += BK * N if ROW_B else BK
    c = c_ptr + m[:, None] * N + n[None, :]
    tl.store(c, acc.to(c_ptr.dtype.element_ty), mask=(m[:, None] < M) & (n[None, :] < N))


@triton.jit
def halves(a_ptr, b_ptr, c_ptr, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """f16 accumulated in f16; all sizes multiples of the tiles."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    a = a_ptr + m[:, None] * K + k[None, :]
    b = b_ptr + k[:, None] * N + n[None, :]
    acc = tl.zeros((BM, BN), tl.float16)
    for i in range(0, K, BK):
        acc = tl.dot(tl.load(a), tl.load(b), acc, out_dtype=tl.float16)
        a += BK
        b += BK * N
    tl.store(c_ptr + m[:, None] * N + n[None, :], acc)


@triton.jit
def columns(a_ptr, b_ptr, c_ptr, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, HALF: tl.constexpr):
    """A [K, M], so that its rows lie side by side in memory, or halved in registers if HALF; B [K, N]."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    a = a_ptr + m[:, None] + k[None, :] * M
    b = b_ptr + k[:, None] * N + n[None, :]
    acc = tl.zeros((BM, BN), tl.float32)
    for i in range(0, K, BK):
        x = tl.load(a)
        if HALF:
            x = (x.to(tl.float32) * 0.5).to(x.dtype)
        acc = tl.dot(x, tl.load(b), acc)
        a += BK * M
        b += BK * N
    tl.store(c_ptr + m[:, None] * N + n[None, :], acc)


@triton.jit
def batched(a, b, c, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """Descriptors of three dimensions: C [Z, M, N] += A [Z, M, K] x B [Z, K, N], with atomics."""
    z = tl.program_id(2)
    m = tl.program_id(0) * BM
    n = tl.program_id(1) * BN
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        acc = tl.dot(a.load([z, m, k]).reshape(BM, BK), b.load([z, k, n]).reshape(BK, BN), acc)
    c.atomic_add([z, m, n], acc.to(c.dtype).reshape(1, BM, BN))


@triton.jit
def described(a, b, c, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """Tensor descriptors that the host makes; B is [N, K]."""
    m = tl.program_id(0) * BM
    n = tl.program_id(1) * BN
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        acc = tl.dot(a.load([m, k]), b.load([n, k]).T, acc)
    c.store([m, n], acc.to(c.dtype))


@triton.jit
def describes(a_ptr, b_ptr, c_ptr, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """Tensor descriptors made on the device; B is [K, N]."""
    a = tl.make_tensor_descriptor(a_ptr, [M, K], [K, 1], [BM, BK])
    b = tl.make_tensor_descriptor(b_ptr, [K, N], [N, 1], [BK, BN])
    c = tl.make_tensor_descriptor(c_ptr, [M, N], [N, 1], [BM, BN])
    m = tl.program_id(0) * BM
    n = tl.program_id(1) * BN
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        acc = tl.dot(a.load([m, k]), b.load([k, n]), acc)
    c.store([m, n], acc.to(c_ptr.dtype.element_ty))


@triton.jit
def persistent(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SPECIALIZE: tl.constexpr):
    """Each block takes tile after tile; with SPECIALIZE some warps only copy. B is [N, K]."""
    columns = tl.cdiv(N, BN)
    tiles = tl.cdiv(M, BM) * columns
    for tile in tl.range(tl.program_id(0), tiles, tl.num_programs(0), warp_specialize=SPECIALIZE, flatten=not SPECIALIZE):
        m = tile // columns * BM
        n = tile % columns * BN
        acc = tl.zeros((BM, BN), tl.float32)
        for k in range(0, K, BK):
            acc = tl.dot(a.load([m, k]), b.load([n, k]).T, acc)
        c.store([m, n], acc.to(c.dtype))
