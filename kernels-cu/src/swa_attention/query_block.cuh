// What the row passes of the double backward share: a block of queries, and the keys that go by.

// k, v, b, c of the cached or of the current keys.
struct KeyArrays {
    const ELEMENT *k, *v, *b, *c;
};

// What a block of queries keeps, and the tiles of keys that go by: two stages of k, v, b, c.
struct QueryBlock {
    const Sizes& s;
    const KeyArrays cached, current;
    const bool has_a;
    const int head, kv, first, last, warp_row;
    const u32 own, stages;
    const KeyTiles<TILE> tiles;
    Own q, do_, a;

    __device__ __forceinline__ QueryBlock(const Sizes& s, KeyArrays cached, KeyArrays current, const ELEMENT* q, const ELEMENT* do_,
                                          const ELEMENT* a, u32 room)
        : s(s), cached(cached), current(current), has_a(a), head(blockIdx.y), kv(blockIdx.y / (s.n / s.m)), first(blockIdx.x * ROWS),
          last(min(first + ROWS, int(s.t)) - 1), warp_row(threadIdx.x / 32 * 16 * COUNT), own(room), stages(room + 3 * OWN),
          tiles(s, first, last) {
        const int count = s.t - first;
        Rows::copy<ROWS, HEAD, THREADS>(own, row_of(q, first, s.n, head), s.n * HEAD, count);
        Rows::copy<ROWS, HEAD, THREADS>(own + OWN, row_of(do_, first, s.n, head), s.n * HEAD, count);
        if (a) Rows::copy<ROWS, HEAD, THREADS>(own + 2 * OWN, row_of(a, first, s.n, head), s.n * HEAD, count);
        fetch(0);
    }

    __device__ __forceinline__ void fetch(int i) {
        const Keys keys = tiles[i];
        const KeyArrays x = keys.cached ? cached : current;
        const u32 to = stages + i % 2 * 4 * PART;
        const int count = keys.end - keys.first;
        Rows::copy<TILE, HEAD, THREADS>(to, row_of(x.k, keys.first, s.m, kv), s.m * HEAD, count);
        Rows::copy<TILE, HEAD, THREADS>(to + PART, row_of(x.v, keys.first, s.m, kv), s.m * HEAD, count);
        if (x.b) Rows::copy<TILE, HEAD, THREADS>(to + 2 * PART, row_of(x.b, keys.first, s.m, kv), s.m * HEAD, count);
        if (x.c) Rows::copy<TILE, HEAD, THREADS>(to + 3 * PART, row_of(x.c, keys.first, s.m, kv), s.m * HEAD, count);
        copies_end();
    }

    // f(P, dP, G, Y, where the tile lies, row in it, its arrays) for each step of each tile.
    template <typename F> __device__ __forceinline__ void run(const RowNumbers<COUNT>& of_row, F f) {
        for (int i = 0; i < tiles.count; ++i) {
            const Keys keys = tiles[i];
            const KeyArrays x = keys.cached ? cached : current;
            copies_wait<0>();
            __syncthreads();
            if (i + 1 < tiles.count) fetch(i + 1);
            if (i == 0) {
                q.load(own, warp_row), do_.load(own + OWN, warp_row);
                if (has_a) a.load(own + 2 * OWN, warp_row);
            }
            const u32 stage = stages + i % 2 * 4 * PART;
            const bool hidden = any_hidden(s, keys, TILE, first, last);
#pragma unroll 1
            for (int at = 0; at < TILE; at += STEP) {
                Scores p = {}, dp = {}, g = {}, y = {};
                if (has_a) {
                    add_products<ELEMENT, COLUMNS, COUNT, STEP>(p, g, q, a, stage, at);
                } else {
                    add_products<ELEMENT, COLUMNS, COUNT, STEP>(p, q, stage, at);
                }
                add_products<ELEMENT, COLUMNS, COUNT, STEP>(dp, do_, stage + PART, at);
                if (x.b) add_products<ELEMENT, COLUMNS, COUNT, STEP>(g, q, stage + 2 * PART, at);
                if (x.c) add_products<ELEMENT, COLUMNS, COUNT, STEP>(y, do_, stage + 3 * PART, at);
                if (hidden) hide_keys<COUNT, STEP>(p, s, keys, first + warp_row, keys.first + at);
                each<COUNT, STEP>([&](int r, int j, int e) {
                    p[r][j][e] = exp_from(p[r][j][e], s.scale, of_row.x[r][e / 2].x);
                });
                f(p, dp, g, y, stage, at, x);
            }
        }
    }
};
