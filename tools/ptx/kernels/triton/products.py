"""Matrix products: C = A B in several types and precisions, and one that splits the inner dimension."""

import triton
import triton.language as tl


@triton.jit
def product(a, b, c, m, n, k, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr, SUM: tl.constexpr):
    """A [m, k], B [k, n] and C [m, n], all row-major; C is of type SUM. Any sizes."""
    rows = tl.program_id(0) * M + tl.arange(0, M)
    columns = tl.program_id(1) * N + tl.arange(0, N)
    inner = tl.arange(0, K)
    sums = tl.zeros([M, N], SUM)
    for start in range(0, k, K):
        left = k - start
        x = tl.load(a + rows[:, None] * k + start + inner[None, :], mask=(rows[:, None] < m) & (inner[None, :] < left), other=0)
        y = tl.load(b + (start + inner)[:, None] * n + columns[None, :], mask=(inner[:, None] < left) & (columns[None, :] < n), other=0)
        sums = tl.dot(x, y, sums, input_precision=PRECISION, out_dtype=SUM)
    tl.store(c + rows[:, None] * n + columns[None, :], sums, mask=(rows[:, None] < m) & (columns[None, :] < n))


@triton.jit
def product_split(a, b, c, m, n, k, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, SPLIT: tl.constexpr):
    """bf16 A [m, k] and B [n, k], f32 C [m, n], which starts as zero: SPLIT programs add to each tile. Sizes are multiples of the tiles."""
    rows = tl.program_id(0) * M + tl.arange(0, M)
    columns = tl.program_id(1) * N + tl.arange(0, N)
    inner = tl.program_id(2) * K + tl.arange(0, K)
    sums = tl.zeros([M, N], tl.float32)
    for start in range(0, k, K * SPLIT):
        x = tl.load(a + rows[:, None] * k + start + inner[None, :])
        y = tl.load(b + columns[None, :] * k + start + inner[:, None])
        sums = tl.dot(x, y, sums)
    tl.atomic_add(c + rows[:, None] * n + columns[None, :], sums)


@triton.jit
def product_persistent(a, b, c, m, n, k, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    """bf16 A [m, k] and B [n, k], bf16 C [m, n] after a sigmoid-weighted unit: each program takes tile after tile. Sizes are multiples of the tiles."""
    tiles = (m // M) * (n // N)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        rows = tile // (n // N) * M + tl.arange(0, M)
        columns = tile % (n // N) * N + tl.arange(0, N)
        inner = tl.arange(0, K)
        sums = tl.zeros([M, N], tl.float32)
        for start in range(0, k, K):
            x = tl.load(a + rows[:, None] * k + start + inner[None, :])
            y = tl.load(b + columns[None, :] * k + start + inner[:, None])
            sums = tl.dot(x, y, sums)
        tl.store(c + rows[:, None] * n + columns[None, :], (sums * tl.sigmoid(sums)).to(tl.bfloat16))
