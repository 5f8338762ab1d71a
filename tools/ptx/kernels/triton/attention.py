"""Causal attention in a window, forward and backward (FlashAttention-2). One head: [sequence, D], bf16 in, f32 sums."""

import triton
import triton.language as tl


@triton.jit
def visible(rows, columns, length, window):
    return (columns <= rows) & (columns > rows - window) & (columns < length) & (rows < length)


@triton.jit
def attention_forward(q, k, v, out, lse, length, window, scale, D: tl.constexpr, M: tl.constexpr, N: tl.constexpr):
    """out: bf16 [length, D]; lse: f32 [length], the natural logarithm of the sum of exponentials."""
    rows = tl.program_id(0) * M + tl.arange(0, M)
    d = tl.arange(0, D)
    queries = tl.load(q + rows[:, None] * D + d[None, :], mask=rows[:, None] < length, other=0.0)
    most = tl.full([M], -1e30, tl.float32)
    total = tl.zeros([M], tl.float32)
    sums = tl.zeros([M, D], tl.float32)
    first = tl.maximum(tl.program_id(0) * M - window + 1, 0) // N * N
    for start in range(first, tl.minimum((tl.program_id(0) + 1) * M, length), N):
        columns = start + tl.arange(0, N)
        inside = columns[:, None] < length
        keys = tl.load(k + columns[:, None] * D + d[None, :], mask=inside, other=0.0)
        values = tl.load(v + columns[:, None] * D + d[None, :], mask=inside, other=0.0)
        scores = tl.dot(queries, tl.trans(keys)) * scale
        scores = tl.where(visible(rows[:, None], columns[None, :], length, window), scores, -float("inf"))
        larger = tl.maximum(most, tl.max(scores, 1))
        p = tl.exp(scores - larger[:, None])
        shrink = tl.exp(most - larger)
        total = total * shrink + tl.sum(p, 1)
        sums = sums * shrink[:, None] + tl.dot(p.to(tl.bfloat16), values)
        most = larger
    tl.store(out + rows[:, None] * D + d[None, :], (sums / total[:, None]).to(tl.bfloat16), mask=rows[:, None] < length)
    tl.store(lse + rows, most + tl.log(total), mask=rows < length)


@triton.jit
def attention_backward_kv(q, k, v, dout, lse, delta, dk, dv, length, window, scale, D: tl.constexpr, M: tl.constexpr, N: tl.constexpr):
    """One program per N keys. delta: f32 [length], the sums of out * dout. dk, dv: f32 [length, D]."""
    columns = tl.program_id(0) * N + tl.arange(0, N)
    d = tl.arange(0, D)
    inside = columns[:, None] < length
    keys = tl.load(k + columns[:, None] * D + d[None, :], mask=inside, other=0.0)
    values = tl.load(v + columns[:, None] * D + d[None, :], mask=inside, other=0.0)
    sum_k = tl.zeros([N, D], tl.float32)
    sum_v = tl.zeros([N, D], tl.float32)
    first = tl.program_id(0) * N // M * M
    for start in range(first, tl.minimum((tl.program_id(0) + 1) * N + window, length), M):
        rows = start + tl.arange(0, M)
        queries = tl.load(q + rows[:, None] * D + d[None, :], mask=rows[:, None] < length, other=0.0)
        grads = tl.load(dout + rows[:, None] * D + d[None, :], mask=rows[:, None] < length, other=0.0)
        logs = tl.load(lse + rows, mask=rows < length, other=0.0)
        deltas = tl.load(delta + rows, mask=rows < length, other=0.0)
        scores = tl.dot(queries, tl.trans(keys)) * scale
        seen = visible(rows[:, None], columns[None, :], length, window)
        p = tl.where(seen, tl.exp(scores - logs[:, None]), 0.0)
        sum_v += tl.dot(tl.trans(p.to(tl.bfloat16)), grads)
        ds = p * (tl.dot(grads, tl.trans(values)) - deltas[:, None]) * scale
        sum_k += tl.dot(tl.trans(ds.to(tl.bfloat16)), queries)
    tl.store(dk + columns[:, None] * D + d[None, :], sum_k, mask=inside)
    tl.store(dv + columns[:, None] * D + d[None, :], sum_v, mask=inside)


@triton.jit
def attention_backward_q(q, k, v, dout, lse, delta, dq, length, window, scale, D: tl.constexpr, M: tl.constexpr, N: tl.constexpr):
    """One program per M queries. dq: f32 [length, D]."""
    rows = tl.program_id(0) * M + tl.arange(0, M)
    d = tl.arange(0, D)
    inside = rows[:, None] < length
    queries = tl.load(q + rows[:, None] * D + d[None, :], mask=inside, other=0.0)
    grads = tl.load(dout + rows[:, None] * D + d[None, :], mask=inside, other=0.0)
    logs = tl.load(lse + rows, mask=rows < length, other=0.0)
    deltas = tl.load(delta + rows, mask=rows < length, other=0.0)
    sum_q = tl.zeros([M, D], tl.float32)
    first = tl.maximum(tl.program_id(0) * M - window + 1, 0) // N * N
    for start in range(first, tl.minimum((tl.program_id(0) + 1) * M, length), N):
        columns = start + tl.arange(0, N)
        keys = tl.load(k + columns[:, None] * D + d[None, :], mask=columns[:, None] < length, other=0.0)
        values = tl.load(v + columns[:, None] * D + d[None, :], mask=columns[:, None] < length, other=0.0)
        scores = tl.dot(queries, tl.trans(keys)) * scale
        seen = visible(rows[:, None], columns[None, :], length, window)
        p = tl.where(seen, tl.exp(scores - logs[:, None]), 0.0)
        ds = p * (tl.dot(grads, tl.trans(values)) - deltas[:, None]) * scale
        sum_q += tl.dot(ds.to(tl.bfloat16), keys)
    tl.store(dq + rows[:, None] * D + d[None, :], sum_q, mask=inside)
