// O = softmax(s Q K') V by online softmax. A block has ROWS queries of one head, a warp 16 COUNT of them; keys and values come in tiles
// of TILE, the next one while the present one is used. Of the keys so far a row has its largest score, the sum l of
// e^(S - largest), and the sum of e^(S - largest) V; all three are rescaled when the largest grows.
//
//   q, o [t, n, HEAD]   cached_k, cached_v [c, m, HEAD]   k, v [t, m, HEAD]   lse [t, n]
//   grid: tiles of queries, heads     shared memory: queries, two stages of keys and values

constexpr int THREADS = WARPS * 32, ROWS = WARPS * 16 * COUNT;
constexpr u32 PART = TILE * Rows::PITCH;

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
swa_attention_forward(const ELEMENT* q, const ELEMENT* cached_k, const ELEMENT* cached_v, const ELEMENT* k, const ELEMENT* v, ELEMENT* o, float* lse,
        u32 t, u32 c, u32 n, u32 m, u32 window, float scale) {
    extern __shared__ __align__(128) unsigned char room[];
    const Sizes s = {t, c, n, m, window, scale};
    const u32 queries = shared_address(room), stages = queries + ROWS * Rows::PITCH;
    const int head = blockIdx.y, kv = head / (n / m), first = blockIdx.x * ROWS, last = min(first + ROWS, int(t)) - 1;
    const int warp_row = threadIdx.x / 32 * 16 * COUNT, lane = threadIdx.x % 32;
    const KeyTiles<TILE> tiles(s, first, last);

    auto fetch = [&](int i) {
        const Keys keys = tiles[i];
        const u32 to = stages + i % 2 * 2 * PART;
        const int count = keys.end - keys.first;
        Rows::copy<TILE, HEAD, THREADS>(to, row_of(keys.cached ? cached_k : k, keys.first, m, kv), m * HEAD, count);
        Rows::copy<TILE, HEAD, THREADS>(to + PART, row_of(keys.cached ? cached_v : v, keys.first, m, kv), m * HEAD, count);
        copies_end();
    };
    Rows::copy<ROWS, HEAD, THREADS>(queries, row_of(q, first, n, head), n * HEAD, t - first);
    fetch(0);

    Factor<ELEMENT, COLUMNS, COUNT, HELD> x;
    Result y = {};
    float largest[COUNT][2], l[COUNT][2] = {};
    for (auto& two : largest) two[0] = two[1] = -infinity();
    for (int i = 0; i < tiles.count; ++i) {
        const Keys keys = tiles[i];
        copies_wait<0>();
        __syncthreads();
        if (i + 1 < tiles.count) fetch(i + 1);
        if (i == 0) x.load(queries, warp_row);
        const u32 stage = stages + i % 2 * 2 * PART;
        const bool hidden = any_hidden(s, keys, TILE, first, last);
#pragma unroll 1
        for (int at = 0; at < TILE; at += STEP) {
            Scores p = {};
            add_products<ELEMENT, COLUMNS, COUNT, STEP>(p, x, stage, at);
            if (hidden) hide_keys<COUNT, STEP>(p, s, keys, first + warp_row, keys.first + at);
#pragma unroll
            for (int r = 0; r < COUNT; ++r) {
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    float most = largest[r][half];
#pragma unroll
                    for (int j = 0; j < STEP / 8; ++j) most = fmaxf(most, fmaxf(p[r][j][2 * half], p[r][j][2 * half + 1]));
                    most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
                    most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
                    // a row that has seen nothing yet has no largest score
                    const float base = most == -infinity() ? 0 : __fmul_rn(most, scale);
                    // of rounded products, as in the sums so far
                    const float shrink = exp_of(__fmul_rn(largest[r][half], scale) - base);
                    largest[r][half] = most;
                    float sum = 0;
#pragma unroll
                    for (int j = 0; j < STEP / 8; ++j) {
                        float &a = p[r][j][2 * half], &b = p[r][j][2 * half + 1];
                        a = exp_from(a, scale, base), b = exp_from(b, scale, base);
                        sum += a + b;
                    }
                    l[r][half] = fmaf(l[r][half], shrink, sum);
                    if (__any_sync(~0u, shrink != 1)) {
#pragma unroll
                        for (int j = 0; j < WIDTH / 8; ++j) y[r][j][2 * half] *= shrink, y[r][j][2 * half + 1] *= shrink;
                    }
                }
            }
            add(y, p, stage + PART, at, 0);
        }
    }

#pragma unroll
    for (int r = 0; r < COUNT; ++r) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float& sum = l[r][half];
            sum += __shfl_xor_sync(~0u, sum, 1);
            sum += __shfl_xor_sync(~0u, sum, 2);
            const float inverse = 1 / sum;
#pragma unroll
            for (int j = 0; j < WIDTH / 8; ++j) y[r][j][2 * half] *= inverse, y[r][j][2 * half + 1] *= inverse;
        }
    }
    const int warp_first = first + warp_row;
    store(row_of(o, warp_first, n, head), n, y, 0, 1, int(t) - warp_first);
#pragma unroll
    for (int r = 0; r < COUNT; ++r) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = warp_first + 16 * r + 8 * half + lane / 4;
            if (lane % 4 || row >= t) continue;
            // of floats in double: the backward kernels rebuild all of P from this number
            const float most = __fmul_rn(largest[r][half], scale), sum = l[r][half];
            lse[u64(row) * n + head] = sizeof(ELEMENT) == 4 ? float(most + log(double(sum))) : most + logf(sum);
        }
    }
}
