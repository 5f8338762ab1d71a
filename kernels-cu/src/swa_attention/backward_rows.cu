// dQ = s dS K with P rebuilt from lse and dS = P (dP - D). A block has ROWS queries of one head; keys and values go by.
//
//   q, do_, dq [t, n, HEAD]   cached_k, cached_v [c, m, HEAD]   k, v [t, m, HEAD]   rows [n, pitch, 2]: {lse, D}
//   grid: tiles of queries, heads     shared memory: q, do, two stages of k and v

constexpr int THREADS = WARPS * 32, ROWS = WARPS * 16 * COUNT;
constexpr u32 PART = TILE * Rows::PITCH;

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
swa_attention_backward_rows(const ELEMENT* q, const ELEMENT* cached_k, const ELEMENT* cached_v, const ELEMENT* k, const ELEMENT* v, const ELEMENT* do_,
              const float2* rows, ELEMENT* dq, u32 pitch, u32 t, u32 c, u32 n, u32 m, u32 window, float scale) {
    extern __shared__ __align__(128) unsigned char room[];
    const Sizes s = {t, c, n, m, window, scale};
    const u32 own = shared_address(room), stages = own + 2 * ROWS * Rows::PITCH;
    const int head = blockIdx.y, kv = head / (n / m), first = blockIdx.x * ROWS, last = min(first + ROWS, int(t)) - 1;
    const int warp_row = threadIdx.x / 32 * 16 * COUNT;
    const KeyTiles<TILE> tiles(s, first, last);

    auto fetch = [&](int i) {
        const Keys keys = tiles[i];
        const u32 to = stages + i % 2 * 2 * PART;
        const int count = keys.end - keys.first;
        Rows::copy<TILE, HEAD, THREADS>(to, row_of(keys.cached ? cached_k : k, keys.first, m, kv), m * HEAD, count);
        Rows::copy<TILE, HEAD, THREADS>(to + PART, row_of(keys.cached ? cached_v : v, keys.first, m, kv), m * HEAD, count);
        copies_end();
    };
    Rows::copy<ROWS, HEAD, THREADS>(own, row_of(q, first, n, head), n * HEAD, t - first);
    Rows::copy<ROWS, HEAD, THREADS>(own + ROWS * Rows::PITCH, row_of(do_, first, n, head), n * HEAD, t - first);
    fetch(0);

    const RowNumbers<COUNT> of_row(rows + u64(head) * pitch, first + warp_row, pitch);
    const bool some_alone = is_alone(s, first);
    Factor<ELEMENT, COLUMNS, COUNT, HELD> x_q, x_do;
    Result y = {};
    for (int i = 0; i < tiles.count; ++i) {
        const Keys keys = tiles[i];
        copies_wait<0>();
        __syncthreads();
        if (i + 1 < tiles.count) fetch(i + 1);
        if (i == 0) x_q.load(own, warp_row), x_do.load(own + ROWS * Rows::PITCH, warp_row);
        const u32 stage = stages + i % 2 * 2 * PART;
        const bool hidden = any_hidden(s, keys, TILE, first, last);
#pragma unroll 1
        for (int at = 0; at < TILE; at += STEP) {
            Scores p = {}, ds = {};
            add_products<ELEMENT, COLUMNS, COUNT, STEP>(p, x_q, stage, at);
            add_products<ELEMENT, COLUMNS, COUNT, STEP>(ds, x_do, stage + PART, at);
            if (hidden) hide_keys<COUNT, STEP>(p, s, keys, first + warp_row, keys.first + at);
            each<COUNT, STEP>([&](int r, int j, int e) {
                const float2 x = of_row.x[r][e / 2];
                ds[r][j][e] = exp_from(p[r][j][e], scale, x.x) * (ds[r][j][e] - x.y);
            });
            if (some_alone) {
                each<COUNT, STEP>([&](int r, int j, int e) {
                    if (is_alone(s, first + warp_row + row_in_warp(r, e))) ds[r][j][e] = 0;
                });
            }
            add(y, ds, stage, at, 0);
        }
    }
    const int warp_first = first + warp_row;
    store(row_of(dq, warp_first, n, head), n, y, 0, scale, int(t) - warp_first);
}
