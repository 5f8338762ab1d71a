// dQ2 and ddO. A block has ROWS queries of one head; keys, values and their cotangents go by.
//   grid: tiles of queries, heads, parts of the head     shared memory: q, do, a, two stages of k, v, b, c
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
swa_attention_double_backward_rows(const ELEMENT* q, const ELEMENT* cached_k, const ELEMENT* cached_v, const ELEMENT* k, const ELEMENT* v,
                     const ELEMENT* do_, const ELEMENT* a, const ELEMENT* cached_b, const ELEMENT* cached_c, const ELEMENT* b,
                     const ELEMENT* c, const float2* rows, const float2* sums, ELEMENT* dq2, ELEMENT* ddo, u32 pitch, u32 t, u32 cached,
                     u32 n, u32 m, u32 window, float scale) {
    extern __shared__ __align__(128) unsigned char room[];
    const Sizes s = {t, cached, n, m, window, scale};
    QueryBlock block(s, {cached_k, cached_v, cached_b, cached_c}, {k, v, b, c}, q, do_, a, shared_address(room));
    const int warp_first = block.first + block.warp_row;
    const RowNumbers<COUNT> of_row(rows + u64(block.head) * pitch, warp_first, pitch);
    const RowNumbers<COUNT> of_sums(sums + u64(block.head) * pitch, warp_first, pitch);
    const bool some_alone = is_alone(s, block.first);
    Result y_q = {}, y_do = {};
    const int column = blockIdx.z * WIDTH;
    block.run(of_row, [&](Scores& p, Scores& dp, Scores& g, Scores& y, u32 stage, int at, const KeyArrays& x) {
        each<COUNT, STEP>([&](int r, int j, int e) {
            const float2 sum = of_sums.x[r][e / 2];
            combine(p[r][j][e], dp[r][j][e], g[r][j][e], y[r][j][e], s.scale, of_row.x[r][e / 2].y, sum.x, sum.y);
        });
        if (some_alone) {
            each<COUNT, STEP>([&](int r, int j, int e) {
                if (is_alone(s, warp_first + row_in_warp(r, e))) dp[r][j][e] = g[r][j][e] = y[r][j][e] = 0;
            });
        }
        if (dq2) {
            add(y_q, y, stage, at, column);
            if (x.b) add(y_q, dp, stage + 2 * PART, at, column);
        }
        if (ddo) {
            add(y_do, g, stage + PART, at, column);
            if (x.c) add(y_do, p, stage + 3 * PART, at, column);
        }
    });
    const int rest = int(t) - warp_first;
    if (dq2) store(row_of(dq2, warp_first, n, block.head), n, y_q, column, scale, rest);
    if (ddo) store(row_of(ddo, warp_first, n, block.head), n, y_do, column, 1, rest);
}
