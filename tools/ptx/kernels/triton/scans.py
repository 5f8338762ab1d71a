"""Scans: a linear recurrence, running sums and products."""

import triton
import triton.language as tl


@triton.jit
def combine(a, x, b, y):
    return a * b, x * b + y


@triton.jit
def recurrence(decay, x, out, length, N: tl.constexpr):
    """h[t] = decay[t] * h[t - 1] + x[t] along rows, f32, in pieces of N that hand on their last state."""
    row = tl.program_id(0)
    at = tl.arange(0, N)
    state = 0.0
    for start in range(0, length, N):
        inside = start + at < length
        a = tl.load(decay + row * length + start + at, mask=inside, other=1.0)
        y = tl.load(x + row * length + start + at, mask=inside, other=0.0)
        products, states = tl.associative_scan((a, y), 0, combine)
        states += products * state
        tl.store(out + row * length + start + at, states, mask=inside)
        state = tl.sum(tl.where(at == N - 1, states, 0.0), 0)


@triton.jit
def running(x, sums, backward, products, N: tl.constexpr, ROWS: tl.constexpr):
    """Running sums of i32 from the left and from the right, and running products of f32, down the columns of [N, ROWS]."""
    at = tl.arange(0, N)[:, None] * ROWS + tl.arange(0, ROWS)[None, :]
    values = tl.load(x + at)
    tl.store(sums + at, tl.cumsum(values, 0))
    tl.store(backward + at, tl.cumsum(values, 0, reverse=True))
    tl.store(products + at, tl.cumprod(1.0 + values.to(tl.float32) * 0.001, 0))
