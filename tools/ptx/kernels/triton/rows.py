"""Kernels that give each row of a matrix to one program: softmax, layer norm, cross entropy, argmax, sort."""

import triton
import triton.language as tl


@triton.jit
def softmax(x, out, columns, N: tl.constexpr):
    """Softmax of f32 rows."""
    row = tl.program_id(0)
    at = tl.arange(0, N)
    values = tl.load(x + row * columns + at, mask=at < columns, other=-float("inf"))
    e = tl.exp(values - tl.max(values, 0))
    tl.store(out + row * columns + at, e / tl.sum(e, 0), mask=at < columns)


@triton.jit
def layer_norm_forward(x, weight, bias, out, mean, rstd, columns, eps, N: tl.constexpr):
    """f16 rows; mean and 1 / standard deviation of each row are kept in f32."""
    row = tl.program_id(0)
    at = tl.arange(0, N)
    inside = at < columns
    values = tl.load(x + row * columns + at, mask=inside, other=0.0).to(tl.float32)
    middle = tl.sum(values, 0) / columns
    centred = tl.where(inside, values - middle, 0.0)
    scale = 1 / tl.sqrt(tl.sum(centred * centred, 0) / columns + eps)
    w = tl.load(weight + at, mask=inside)
    b = tl.load(bias + at, mask=inside)
    tl.store(out + row * columns + at, (centred * scale * w + b).to(tl.float16), mask=inside)
    tl.store(mean + row, middle)
    tl.store(rstd + row, scale)


@triton.jit
def layer_norm_backward(x, weight, mean, rstd, dout, dx, dweight, dbias, lock, columns, N: tl.constexpr):
    """Gradients of a layer norm; rows add to the gradients of weight and bias one after another, behind a lock."""
    row = tl.program_id(0)
    at = tl.arange(0, N)
    inside = at < columns
    values = tl.load(x + row * columns + at, mask=inside, other=0.0).to(tl.float32)
    grads = tl.load(dout + row * columns + at, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + at, mask=inside, other=0.0)
    scale = tl.load(rstd + row)
    unit = tl.where(inside, (values - tl.load(mean + row)) * scale, 0.0)
    wg = grads * w
    c1 = tl.sum(unit * wg, 0) / columns
    c2 = tl.sum(wg, 0) / columns
    tl.store(dx + row * columns + at, ((wg - (unit * c1 + c2)) * scale).to(tl.float16), mask=inside)
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    tl.store(dweight + at, tl.load(dweight + at, mask=inside) + grads * unit, mask=inside)
    tl.store(dbias + at, tl.load(dbias + at, mask=inside) + grads, mask=inside)
    tl.debug_barrier()
    tl.atomic_xchg(lock, 0)


@triton.jit
def cross_entropy(logits, labels, loss, dlogits, columns, N: tl.constexpr):
    """Loss of each row of bf16 logits, and its gradient; labels are i64, and a negative one is left out."""
    row = tl.program_id(0)
    at = tl.arange(0, N)
    inside = at < columns
    label = tl.load(labels + row)
    values = tl.load(logits + row * columns + at, mask=inside, other=-float("inf")).to(tl.float32)
    most = tl.max(values, 0)
    e = tl.exp(values - most)
    total = tl.sum(e, 0)
    grad = e / total - tl.where(at == label, 1.0, 0.0)
    tl.store(dlogits + row * columns + at, tl.where(label >= 0, grad, 0.0).to(tl.bfloat16), mask=inside)
    if label >= 0:
        picked = tl.load(logits + row * columns + label).to(tl.float32)
        tl.store(loss + row, tl.log(total) + most - picked)
    else:
        tl.store(loss + row, 0.0)


@triton.jit
def argmax(x, most, least, N: tl.constexpr):
    """Position of the largest and of the smallest value of each row of N; the first of equals."""
    row = tl.program_id(0)
    values = tl.load(x + row * N + tl.arange(0, N))
    tl.store(most + row, tl.argmax(values, 0))
    tl.store(least + row, tl.argmin(values, 0))


@triton.jit
def sort(x, out, N: tl.constexpr):
    """Sorts rows of N i32."""
    row = tl.program_id(0)
    at = row * N + tl.arange(0, N)
    tl.store(out + at, tl.sort(tl.load(x + at)))
