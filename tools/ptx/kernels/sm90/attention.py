"""Attention forward: O = softmax(scale Q K^T) V, causal if CAUSAL; heads side by side in the second axis of the grid."""

import triton
import triton.language as tl


@triton.jit
def forward(q, k, v, o, scale, T, CAUSAL: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """Q, K, V, O [heads * T, D] as tensor descriptors; T a multiple of the tiles. `scale` holds log2(e)."""
    block = tl.program_id(0)
    base = tl.program_id(1) * T
    query = q.load([base + block * BM, 0])
    rows = block * BM + tl.arange(0, BM)
    top = tl.full((BM,), float("-inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, D), tl.float32)
    end = (block + 1) * BM if CAUSAL else T
    for n in range(0, end, BN):
        s = tl.dot(query, k.load([base + n, 0]).T) * scale
        if CAUSAL:
            s = tl.where(rows[:, None] >= n + tl.arange(0, BN)[None, :], s, float("-inf"))
        new = tl.maximum(top, tl.max(s, 1))
        p = tl.exp2(s - new[:, None])
        rest = tl.exp2(top - new)
        total = total * rest + tl.sum(p, 1)
        acc = tl.dot(p.to(v.dtype), v.load([base + n, 0]), acc * rest[:, None])
        top = new
    o.store([base + block * BM, 0], (acc / total[:, None]).to(o.dtype))
