// gamma and rho. A block has ROWS queries of one head; keys, values and their cotangents go by.
//   grid: tiles of queries, heads     shared memory: q, do, a, two stages of k, v, b, c
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
swa_attention_double_backward_sums(const ELEMENT* q, const ELEMENT* cached_k, const ELEMENT* cached_v, const ELEMENT* k, const ELEMENT* v,
                     const ELEMENT* do_, const ELEMENT* a, const ELEMENT* cached_b, const ELEMENT* cached_c, const ELEMENT* b,
                     const ELEMENT* c, const float2* rows, float2* sums, u32 pitch, u32 t, u32 cached, u32 n, u32 m, u32 window, float scale) {
    extern __shared__ __align__(128) unsigned char room[];
    const Sizes s = {t, cached, n, m, window, scale};
    QueryBlock block(s, {cached_k, cached_v, cached_b, cached_c}, {k, v, b, c}, q, do_, a, shared_address(room));
    const int warp_first = block.first + block.warp_row;
    const RowNumbers<COUNT> of_row(rows + u64(block.head) * pitch, warp_first, pitch);
    float gamma[COUNT][2] = {}, rho[COUNT][2] = {}, all[COUNT][2] = {};
    block.run(of_row, [&](Scores& p, Scores& dp, Scores& g, Scores& y, u32, int, const KeyArrays&) {
        each<COUNT, STEP>([&](int r, int j, int e) {
            const float scaled = s.scale * g[r][j][e], x = fmaf(scaled, dp[r][j][e] - of_row.x[r][e / 2].y, y[r][j][e]);
            gamma[r][e / 2] = fmaf(p[r][j][e], scaled, gamma[r][e / 2]);
            rho[r][e / 2] = fmaf(p[r][j][e], x, rho[r][e / 2]);
            all[r][e / 2] += p[r][j][e];
        });
    });
#pragma unroll
    for (int i = 0; i < 2 * COUNT; ++i) {
        float x[3] = {gamma[i / 2][i % 2], rho[i / 2][i % 2], all[i / 2][i % 2]};
#pragma unroll
        for (int lanes = 1; lanes <= 2; lanes *= 2) {
            for (float& x : x) x += __shfl_xor_sync(~0u, x, lanes);
        }
        const int row = warp_first + row_in_warp(i / 2, i % 2 * 2);
        // P sums to 1 as exactly as lse is rounded; what is centred must be so exactly. A row that is not there has no P.
        const float inverse = x[2] == 0 ? 0 : 1 / x[2];
        if (threadIdx.x % 4 == 0 && row < pitch) sums[u64(block.head) * pitch + row] = make_float2(x[0] * inverse, x[1] * inverse);
    }
}
