"""Kernels on single elements: dropout, rotary embedding, histogram, gather, transpose, functions."""

import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def dropout(x, out, count, keep, seed, N: tl.constexpr):
    """Keeps an f32 with probability `keep`; Philox of the seed and the position decides."""
    at = tl.program_id(0) * N + tl.arange(0, N)
    values = tl.load(x + at, mask=at < count)
    chosen = tl.rand(seed, at) < keep
    tl.store(out + at, tl.where(chosen, values / keep, 0.0), mask=at < count)


@triton.jit
def rope(x, cosine, sine, out, heads, D: tl.constexpr):
    """Rotary embedding of f16 [length, heads, D] by halves; one program per position and head."""
    position = tl.program_id(0)
    base = (position * heads + tl.program_id(1)) * D
    half = tl.arange(0, D // 2)
    c = tl.load(cosine + position * (D // 2) + half)
    s = tl.load(sine + position * (D // 2) + half)
    a = tl.load(x + base + half).to(tl.float32)
    b = tl.load(x + base + D // 2 + half).to(tl.float32)
    tl.store(out + base + half, (a * c - b * s).to(tl.float16))
    tl.store(out + base + D // 2 + half, (a * s + b * c).to(tl.float16))


@triton.jit
def histogram(x, counts, count, N: tl.constexpr, BINS: tl.constexpr):
    """Adds the counts of i32 values in 0..BINS; each program counts N of them on its own first."""
    at = tl.program_id(0) * N + tl.arange(0, N)
    values = tl.load(x + at, mask=at < count, other=0)
    mine = tl.histogram(values, BINS, mask=at < count)
    tl.atomic_add(counts + tl.arange(0, BINS), mine)


@triton.jit
def gather(x, index, out, M: tl.constexpr, N: tl.constexpr):
    """out[i, j] = x[index[i, j], j] for f32 [M, N]."""
    at = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    tl.store(out + at, tl.gather(tl.load(x + at), tl.load(index + at), 0))


@triton.jit
def transpose(x, out, rows, columns, M: tl.constexpr, N: tl.constexpr):
    """Transposes a matrix of bytes through shared memory."""
    i = tl.program_id(0) * M + tl.arange(0, M)
    j = tl.program_id(1) * N + tl.arange(0, N)
    tile = tl.load(x + i[:, None] * columns + j[None, :], mask=(i[:, None] < rows) & (j[None, :] < columns), other=0)
    tl.store(out + j[:, None] * rows + i[None, :], tl.trans(tile), mask=(j[:, None] < columns) & (i[None, :] < rows))


@triton.jit
def functions(x, out, N: tl.constexpr):
    """erf, tanh, sin, log, pow, floor of f32: row r of out [6, N] holds the r-th."""
    at = tl.arange(0, N)
    v = tl.load(x + at)
    tl.store(out + at, tl.erf(v))
    tl.store(out + N + at, libdevice.tanh(v))
    tl.store(out + 2 * N + at, tl.sin(v))
    tl.store(out + 3 * N + at, tl.log(tl.abs(v) + 0.5))
    tl.store(out + 4 * N + at, libdevice.pow(tl.abs(v), 1.5))
    tl.store(out + 5 * N + at, tl.floor(v * 7.5))
