// Arithmetic of half precision: pairs of f16, pairs of bf16.

#include <cuda_fp16.h>
#include <cuda_bf16.h>

/// out = max(a * x + y, 0), and the sum of all of out, kept as pairs, f16.
extern "C" __global__ void half_pairs(const __half2* x, const __half2* y, __half2* out, __half2* sum, float a, int pairs) {
    __half2 scale = __float2half2_rn(a), mine = __float2half2_rn(0.0f);
    for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
        __half2 value = __hfma2_relu(scale, x[i], y[i]);
        out[i] = value;
        mine = __hadd2(mine, value);
    }
    atomicAdd(sum, mine);
}

/// Row r of out [6, count]: sum, product, fused, larger, square root, exponential; comparisons into flags.
extern "C" __global__ void half_functions(const __half* x, const __half* y, __half* out, int* flags, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    __half a = x[i], b = y[i];
    out[i] = __hadd(a, b);
    out[count + i] = __hmul_sat(a, b);
    out[2 * count + i] = __hfma(a, b, a);
    out[3 * count + i] = __hmax(a, b);
    out[4 * count + i] = hsqrt(__habs(a));
    out[5 * count + i] = hexp(b);
    flags[i] = (__hlt(a, b) ? 1 : 0) | (__hge(a, b) ? 2 : 0) | (__hisnan(a) ? 4 : 0) | (__hequ(a, b) ? 8 : 0);
}

/// Norms of rows of bf16 pairs: out[row] = sum of squares, computed in bf16 products and f32 sums.
extern "C" __global__ void bf16_norms(const __nv_bfloat162* x, float* out, __nv_bfloat162* largest, int pairs) {
    float sum = 0.0f;
    __nv_bfloat162 most = __float2bfloat162_rn(-1e30f);
    for (int i = threadIdx.x; i < pairs; i += 32) {
        __nv_bfloat162 value = x[blockIdx.x * pairs + i];
        float2 square = __bfloat1622float2(__hmul2(value, value));
        sum += square.x + square.y;
        most = __hmax2(most, value);
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, offset);
        most = __hmax2(most, __shfl_xor_sync(0xffffffffu, most, offset));
    }
    if (threadIdx.x == 0) {
        out[blockIdx.x] = sum;
        largest[blockIdx.x] = most;
    }
}
