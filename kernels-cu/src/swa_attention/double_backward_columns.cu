// dK2 and dV2 of `count` keys, the first at `position`. A block has ROWS keys of one head; the queries that see any of them go by, one
// head of the group after the other.
//   grid: tiles of keys, key/value heads, parts of the head     shared memory: k, v, b and c if there is either, two stages of q, do, a, rows and sums
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
swa_attention_double_backward_columns(const ELEMENT* q, const ELEMENT* k, const ELEMENT* v, const ELEMENT* do_, const ELEMENT* a, const ELEMENT* b,
                        const ELEMENT* c, const float2* rows, const float2* sums, ELEMENT* dk2, ELEMENT* dv2, u32 count, u32 position,
                        u32 pitch, u32 t, u32 cached, u32 n, u32 m, u32 window, float scale) {
    extern __shared__ __align__(128) unsigned char room[];
    const Sizes s = {t, cached, n, m, window, scale};
    constexpr u32 STAGE = 3 * PART + 2 * NUMBERS;
    const u32 own = shared_address(room), stages = own + (b || c ? 4 : 2) * OWN;
    const int kv = blockIdx.y, group = n / m, first = blockIdx.x * ROWS, last = min(first + ROWS, int(count)) - 1;
    const int warp_row = threadIdx.x / 32 * 16 * COUNT;
    const QueryTiles<TILE> tiles(s, position + first, position + last);

    auto fetch = [&](int i) {
        const u32 to = stages + i % 2 * STAGE, head = kv * group + i / tiles.count;
        const int from = tiles.first + i % tiles.count * TILE;
        Rows::copy<TILE, HEAD, THREADS>(to, row_of(q, from, n, head), n * HEAD, t - from);
        Rows::copy<TILE, HEAD, THREADS>(to + PART, row_of(do_, from, n, head), n * HEAD, t - from);
        if (a) Rows::copy<TILE, HEAD, THREADS>(to + 2 * PART, row_of(a, from, n, head), n * HEAD, t - from);
        copy_numbers<TILE>(to + 3 * PART, rows + u64(head) * pitch, from, pitch);
        copy_numbers<TILE>(to + 3 * PART + NUMBERS, sums + u64(head) * pitch, from, pitch);
        copies_end();
    };
    auto keep = [&](int i, const ELEMENT* x) {
        if (x) Rows::copy<ROWS, HEAD, THREADS>(own + i * OWN, row_of(x, first, m, kv), m * HEAD, count - first);
    };
    if (tiles.count > 0) keep(0, k), keep(1, v), keep(2, b), keep(3, c), fetch(0);

    Own x_k, x_v;
    Factor<ELEMENT, COLUMNS, COUNT, false> x_b, x_c;
    Result y_k = {}, y_v = {};
    const int column = blockIdx.z * WIDTH;
    for (int i = 0; i < tiles.count * group; ++i) {
        copies_wait<0>();
        __syncthreads();
        if (i + 1 < tiles.count * group) fetch(i + 1);
        if (i == 0) {
            x_k.load(own, warp_row), x_v.load(own + OWN, warp_row);
            x_b.load(own + 2 * OWN, warp_row), x_c.load(own + 3 * OWN, warp_row);
        }
        const u32 stage = stages + i % 2 * STAGE;
        const int from = tiles.first + i % tiles.count * TILE, to = min(from + TILE, int(t)) - 1;
        const bool hidden = from + TILE > t || any_hidden(s, from, to, position + first, position + last);
        const bool some_alone = is_alone(s, from);
#pragma unroll 1
        for (int at = 0; at < TILE; at += STEP) {
            Scores p = {}, dp = {}, g = {}, y = {};
            if (a) {
                add_products<ELEMENT, COLUMNS, COUNT, STEP>(p, g, x_k, stage, stage + 2 * PART, at);
            } else {
                add_products<ELEMENT, COLUMNS, COUNT, STEP>(p, x_k, stage, at);
            }
            add_products<ELEMENT, COLUMNS, COUNT, STEP>(dp, x_v, stage + PART, at);
            if (b) add_products<ELEMENT, COLUMNS, COUNT, STEP>(g, x_b, stage, at);
            if (c) add_products<ELEMENT, COLUMNS, COUNT, STEP>(y, x_c, stage + PART, at);
            if (hidden) hide_queries<COUNT, STEP>(p, s, position + first + warp_row, from + at);
            each_column<COUNT, STEP>(stage + 3 * PART, at, [&](int r, int j, int e, float lse, float d) {
                p[r][j][e] = exp_from(p[r][j][e], s.scale, lse);
                dp[r][j][e] -= d;
            });
            each_column<COUNT, STEP>(stage + 3 * PART + NUMBERS, at, [&](int r, int j, int e, float gamma, float rho) {
                combine(p[r][j][e], dp[r][j][e], g[r][j][e], y[r][j][e], s.scale, 0, gamma, rho);
            });
            if (some_alone) {
                each<COUNT, STEP>([&](int r, int j, int e) {
                    if (is_alone(s, from + at + column_in_step(j, e))) dp[r][j][e] = g[r][j][e] = y[r][j][e] = 0;
                });
            }
            if (dv2) add(y_v, g, stage + PART, at, column);
            if (dk2) {
                add(y_k, y, stage, at, column);
                if (a) add(y_k, dp, stage + 2 * PART, at, column);
            }
        }
    }
    const int warp_first = first + warp_row, rest = int(count) - warp_first;
    if (dk2) store(row_of(dk2, warp_first, m, kv), m, y_k, column, scale, rest);
    if (dv2) store(row_of(dv2, warp_first, m, kv), m, y_v, column, 1, rest);
}
