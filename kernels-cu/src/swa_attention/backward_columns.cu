// dK = s dS' Q and dV = P' dO of `count` keys, the first of which stands at `position`. A block has ROWS keys of one head; the queries
// that see any of them go by, one head of the group after the other. dk or dv may be null: it is then not made.
//
//   q, do_ [t, n, HEAD]   k, v, dk, dv [count, m, HEAD]   rows [n, pitch, 2]: {lse, D}
//   grid: tiles of keys, key/value heads, parts of the head     shared memory: k, v, two stages of q, do and rows

constexpr int THREADS = WARPS * 32, ROWS = WARPS * 16 * COUNT;
constexpr u32 PART = TILE * Rows::PITCH, NUMBERS = TILE * 8;

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
swa_attention_backward_columns(const ELEMENT* q, const ELEMENT* k, const ELEMENT* v, const ELEMENT* do_, const float2* rows, ELEMENT* dk, ELEMENT* dv,
                 u32 count, u32 position, u32 pitch, u32 t, u32 c, u32 n, u32 m, u32 window, float scale) {
    extern __shared__ __align__(128) unsigned char room[];
    const Sizes s = {t, c, n, m, window, scale};
    constexpr u32 STAGE = 2 * PART + NUMBERS;
    const u32 own = shared_address(room), stages = own + 2 * ROWS * Rows::PITCH;
    const int kv = blockIdx.y, group = n / m, first = blockIdx.x * ROWS, last = min(first + ROWS, int(count)) - 1;
    const int warp_row = threadIdx.x / 32 * 16 * COUNT;
    const QueryTiles<TILE> tiles(s, position + first, position + last);

    auto fetch = [&](int i) {
        const u32 to = stages + i % 2 * STAGE, head = kv * group + i / tiles.count;
        const int from = tiles.first + i % tiles.count * TILE;
        Rows::copy<TILE, HEAD, THREADS>(to, row_of(q, from, n, head), n * HEAD, t - from);
        Rows::copy<TILE, HEAD, THREADS>(to + PART, row_of(do_, from, n, head), n * HEAD, t - from);
        copy_numbers<TILE>(to + 2 * PART, rows + u64(head) * pitch, from, pitch);
        copies_end();
    };
    if (tiles.count > 0) {
        Rows::copy<ROWS, HEAD, THREADS>(own, row_of(k, first, m, kv), m * HEAD, count - first);
        Rows::copy<ROWS, HEAD, THREADS>(own + ROWS * Rows::PITCH, row_of(v, first, m, kv), m * HEAD, count - first);
        fetch(0);
    }

    Factor<ELEMENT, COLUMNS, COUNT, HELD> x_k, x_v;
    Result y_k = {}, y_v = {};
    const int column = blockIdx.z * WIDTH;
    for (int i = 0; i < tiles.count * group; ++i) {
        copies_wait<0>();
        __syncthreads();
        if (i + 1 < tiles.count * group) fetch(i + 1);
        if (i == 0) x_k.load(own, warp_row), x_v.load(own + ROWS * Rows::PITCH, warp_row);
        const u32 stage = stages + i % 2 * STAGE;
        const int from = tiles.first + i % tiles.count * TILE, to = min(from + TILE, int(t)) - 1;
        const bool hidden = from + TILE > t || any_hidden(s, from, to, position + first, position + last);
        const bool some_alone = is_alone(s, from);
#pragma unroll 1
        for (int at = 0; at < TILE; at += STEP) {
            Scores p = {}, ds = {};
            add_products<ELEMENT, COLUMNS, COUNT, STEP>(p, x_k, stage, at);
            add_products<ELEMENT, COLUMNS, COUNT, STEP>(ds, x_v, stage + PART, at);
            if (hidden) hide_queries<COUNT, STEP>(p, s, position + first + warp_row, from + at);
            each_column<COUNT, STEP>(stage + 2 * PART, at, [&](int r, int j, int e, float lse, float d) {
                p[r][j][e] = exp_from(p[r][j][e], scale, lse);
                ds[r][j][e] = p[r][j][e] * (ds[r][j][e] - d);
            });
            if (some_alone) {
                each<COUNT, STEP>([&](int r, int j, int e) {
                    if (is_alone(s, from + at + column_in_step(j, e))) ds[r][j][e] = 0;
                });
            }
            if (dv) add(y_v, p, stage + PART, at, column);
            if (dk) add(y_k, ds, stage, at, column);
        }
    }
    const int warp_first = first + warp_row, rest = int(count) - warp_first;
    if (dk) store(row_of(dk, warp_first, m, kv), m, y_k, column, scale, rest);
    if (dv) store(row_of(dv, warp_first, m, kv), m, y_v, column, 1, rest);
}
