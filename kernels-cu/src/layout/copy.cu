// to[sum_a i_a t_a] = from[sum_a i_a f_a] for places i along five axes, the last one innermost.
//
//   n        words in all         s1 .. s4   sizes of the axes but the first
//   WORD     what a thread moves

extern "C" __global__ void __launch_bounds__(256)
    copy(const WORD* from, WORD* to, u32 n, u32 s1, u32 s2, u32 s3, u32 s4, u64 f0, u64 f1, u64 f2, u64 f3, u64 f4, u64 t0, u64 t1,
         u64 t2, u64 t3, u64 t4) {
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    u32 i4 = i % s4;
    i /= s4;
    u32 i3 = i % s3;
    i /= s3;
    u32 i2 = i % s2;
    i /= s2;
    u32 i1 = i % s1, i0 = i / s1;
    to[i0 * t0 + i1 * t1 + i2 * t2 + i3 * t3 + i4 * t4] = from[i0 * f0 + i1 * f1 + i2 * f2 + i3 * f3 + i4 * f4];
}
