// One block's tile of C = A B (+ A2 B2): a pipeline of copies into shared memory, fragments from it, products on tensor cores.
//
// A factor lies in global memory either as [rows, k] ("k last": A itself, and B') or as [k, rows] (A', and B itself); its rows are those
// of C for A and the columns of C for B.
//
//   TILE_M, TILE_N     size of the tile                        ELEMENT   type of the factors
//   WARPS_M, WARPS_N   how warps share it                      STAGES    slices of k in shared memory at once
//   PASSES             f32 only: 3 for products as exact as f32's, 1 for factors rounded to tf32

constexpr int PIECE = 16 / sizeof(ELEMENT);  // elements of 16 bytes
constexpr int TILE_K = 8 * PIECE;            // a slice of k: 128 bytes of each row
constexpr int THREADS = 32 * WARPS_M * WARPS_N;
constexpr int WARP_M = TILE_M / WARPS_M, WARP_N = TILE_N / WARPS_N;
constexpr int MT = WARP_M / 16, NT = WARP_N / 8;  // matrices of 16 x 8 of a warp
constexpr int STAGE = (TILE_M + TILE_N) * 128;    // bytes of a slice of both factors
constexpr bool IS_BF16 = sizeof(ELEMENT) == 2;

// Sums of a warp's part of the tile.
typedef float Sums[MT][NT][4];

// The factors of one product. B may come in two halves, side by side in the tile (`right`, a product of its own); a half that is null is zero.
struct Factors {
    const ELEMENT *a, *b, *right;
};

// Byte at which a slice of a factor with ROWS rows keeps piece `piece` of line `line`. A line is a row of 128 bytes if k is last, else all rows at
// one k. Pieces are permuted within a line so that neither copies nor fragments meet in a bank.
template <int ROWS, bool K_LAST> __device__ __forceinline__ u32 place(u32 line, u32 piece) {
    if (K_LAST) return line * 128 + ((piece ^ (line & 7)) * 16);
    u32 turn = IS_BF16 ? line & 7 : 2 * (line & 3);
    return line * (ROWS * u32(sizeof(ELEMENT))) + ((piece ^ turn) * 16);
}

// Starts copying a slice: rows from `first_row`, k from `first_k`; zeros beyond `rows` and `k`. Not `wide`: lines are not multiples of 16 bytes,
// and elements go one by one.
template <int ROWS, bool K_LAST>
__device__ __forceinline__ void copy_slice(u32 to, const ELEMENT* x, u32 first_row, u32 rows, u32 first_k, u32 k, bool wide) {
    constexpr u32 LINES = K_LAST ? ROWS : TILE_K, LENGTH = K_LAST ? TILE_K : ROWS, PIECES = LENGTH / PIECE;
    u64 pitch = K_LAST ? k : rows;
    u32 first_line = K_LAST ? first_row : first_k, lines = K_LAST ? rows : k;
    u32 first = K_LAST ? first_k : first_row, length = K_LAST ? k : rows;
    if (wide) {
#pragma unroll
        for (u32 i = threadIdx.x; i < LINES * PIECES; i += THREADS) {
            u32 line = i / PIECES, piece = i % PIECES, at = first + piece * PIECE;
            bool there = x && first_line + line < lines && at < length;
            copy_16(to + place<ROWS, K_LAST>(line, piece), x + (first_line + line) * pitch + at, there);
        }
    } else {
#pragma unroll 4
        for (u32 i = threadIdx.x; i < LINES * LENGTH; i += THREADS) {
            u32 line = i / LENGTH, j = i % LENGTH, at = first + j;
            bool there = x && first_line + line < lines && at < length;
            ELEMENT e = there ? x[(first_line + line) * pitch + at] : from_float<ELEMENT>(0);
            store_shared(to + place<ROWS, K_LAST>(line, j / PIECE) + (j % PIECE) * u32(sizeof(ELEMENT)), e);
        }
    }
}

// Fragments of 16 rows from `row` and 2 PIECE k from `2 PIECE step` of a slice: four matrices of 8 rows and PIECE k. FIRST_ROWS: the second one has the
// next rows (as A wants them), else the next k (as two of B want them).
template <int ROWS, bool K_LAST, bool FIRST_ROWS> __device__ __forceinline__ void fragments(u32 (&x)[4], u32 slice, u32 row, u32 step) {
    u32 lane = threadIdx.x % 32;
    if (K_LAST || IS_BF16) {
        u32 one = lane / 8 % 2, two = lane / 16, next_row = FIRST_ROWS ? one : two, next_k = FIRST_ROWS ? two : one;
        if (K_LAST)
            ldmatrix(x, slice + place<ROWS, K_LAST>(row + 8 * next_row + lane % 8, 2 * step + next_k));
        else
            ldmatrix_transposed(x, slice + place<ROWS, K_LAST>(2 * PIECE * step + PIECE * next_k + lane % 8, row / PIECE + next_row));
    } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            u32 one = i % 2, two = i / 2, next_row = FIRST_ROWS ? one : two, next_k = FIRST_ROWS ? two : one;
            u32 r = row + 8 * next_row + lane / 4, at = 2 * PIECE * step + PIECE * next_k + lane % 4;
            x[i] = load_shared(slice + place<ROWS, K_LAST>(at, r / PIECE) + r % PIECE * 4);
        }
    }
}

// Where the warp's j-th matrix of 16 columns begins in the tile. In two halves, a warp has the same columns of both.
template <int HALVES> __device__ __forceinline__ u32 column_of(u32 warp, int j) {
    constexpr int PART = WARP_N / HALVES;
    return HALVES == 1 ? warp * WARP_N + 16 * j : 16 * j / PART * (TILE_N / 2) + warp * PART + 16 * j % PART;
}

// Adds products of fragments of f32. Those of 8 k are summed apart and added with one rounding: tensor cores round worse than adders.
__device__ __forceinline__ void multiply_f32(Sums& sums, u32 (&a)[MT][4], u32 (&b)[NT / 2][4]) {
    u32 small_b[NT / 2][4];
#pragma unroll
    for (int j = 0; j < NT / 2; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) split_tf32(__uint_as_float(b[j][e]), b[j][e], small_b[j][e]);
#pragma unroll
    for (int i = 0; i < MT; ++i) {
        u32 small_a[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) split_tf32(__uint_as_float(a[i][e]), a[i][e], small_a[e]);
#pragma unroll
        for (int j = 0; j < NT; ++j) {
            u32 big[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]}, small[2] = {small_b[j / 2][j % 2 * 2], small_b[j / 2][j % 2 * 2 + 1]};
            if (PASSES == 1) {
                mma_tf32(sums[i][j], a[i], big);
                continue;
            }
            float part[4] = {0, 0, 0, 0};
            mma_tf32(part, small_a, big);
            mma_tf32(part, a[i], small);
            mma_tf32(part, a[i], big);
#pragma unroll
            for (int e = 0; e < 4; ++e) sums[i][j][e] += part[e];
        }
    }
}

// Adds a slice's product.
template <bool A_K_LAST, bool B_K_LAST, int HALVES> __device__ __forceinline__ void multiply(Sums& sums, u32 a_slice, u32 b_slice) {
    u32 warp = threadIdx.x / 32, row = warp / WARPS_N * WARP_M;
// f32 takes two fragments for one: with all steps in line it would take more registers than there are
#pragma unroll(IS_BF16 ? 4 : 1)
    for (int step = 0; step < 4; ++step) {
        u32 a[MT][4], b[NT / 2][4];
#pragma unroll
        for (int i = 0; i < MT; ++i) fragments<TILE_M, A_K_LAST, true>(a[i], a_slice, row + 16 * i, step);
#pragma unroll
        for (int j = 0; j < NT / 2; ++j) fragments<TILE_N, B_K_LAST, false>(b[j], b_slice, column_of<HALVES>(warp % WARPS_N, j), step);
        if constexpr (IS_BF16) {
#pragma unroll
            for (int i = 0; i < MT; ++i)
#pragma unroll
                for (int j = 0; j < NT; ++j) {
                    u32 one[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
                    mma_bf16(sums[i][j], a[i], one);
                }
        } else {
            multiply_f32(sums, a, b);
        }
    }
}

// Sums of the tile at (row, column) of A B, and of A2 B2 behind it if there is one: slices [begin, end) of the ceil(k / TILE_K) of the first and
// as many of the second. `shared` has STAGES STAGE bytes and may be used again after a barrier. With two HALVES, n columns of each.
template <bool A_K_LAST, bool B_K_LAST, int HALVES>
__device__ __forceinline__ void product(Sums& sums, const Factors& first, const Factors& second, u32 m, u32 n, u32 k, u32 row, u32 column,
                                        u32 begin, u32 end, u32 shared, bool wide) {
    static_assert(HALVES == 1 || B_K_LAST, "halves are rows of B'");
    u32 slices = (k + TILE_K - 1) / TILE_K;
    auto copy = [&](u32 slice) {
        if (slice < end) {
            bool early = slice < slices;
            u32 at = (early ? slice : slice - slices) * TILE_K, to = shared + (slice - begin) % STAGES * STAGE;
            copy_slice<TILE_M, A_K_LAST>(to, early ? first.a : second.a, row, m, at, k, wide);
            u32 b = to + TILE_M * 128;
            copy_slice<TILE_N / HALVES, B_K_LAST>(b, early ? first.b : second.b, column, n, at, k, wide);
            if (HALVES == 2) copy_slice<TILE_N / HALVES, B_K_LAST>(b + TILE_N * 64, early ? first.right : second.right, column, n, at, k, wide);
        }
        copies_end();
    };
#pragma unroll
    for (int i = 0; i < MT; ++i)
#pragma unroll
        for (int j = 0; j < NT; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) sums[i][j][e] = 0;
    for (u32 i = 0; i < STAGES - 1; ++i) copy(begin + i);
    for (u32 slice = begin; slice < end; ++slice) {
        copies_wait<STAGES - 2>();
        __syncthreads();
        copy(slice + STAGES - 1);
        u32 a = shared + (slice - begin) % STAGES * STAGE;
        multiply<A_K_LAST, B_K_LAST, HALVES>(sums, a, a + TILE_M * 128);
    }
    copies_wait<0>();
}

// Calls f(row, column, four) for each four columns side by side of the tile that a thread has after trading with its neighbour, so that what
// it reads and writes in global memory is whole sectors. With two HALVES, four[0] and four[1] are of the same column of each.
template <int HALVES, typename F> __device__ __forceinline__ void for_fours(const Sums& sums, F f) {
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32, quarter = lane % 4;
    bool odd = lane % 2;
    u32 row = warp / WARPS_N * WARP_M + lane / 4;
#pragma unroll
    for (int i = 0; i < MT; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
            for (int j = 0; j < NT / 2 / HALVES; ++j) {
                float four[HALVES][4];
#pragma unroll
                for (int h = 0; h < HALVES; ++h) {
                    int left = 2 * (j + h * (NT / 2 / HALVES));
#pragma unroll
                    for (int e = 0; e < 2; ++e) {
                        float x = sums[i][left][2 * half + e], y = sums[i][left + 1][2 * half + e];
                        float mine = odd ? y : x, theirs = __shfl_xor_sync(~0u, odd ? x : y, 1);
                        four[h][e] = odd ? theirs : mine;
                        four[h][2 + e] = odd ? mine : theirs;
                    }
                }
                // an even lane has four columns of the left matrix, an odd one of the right
                f(row + 16 * i + 8 * half, column_of<HALVES>(warp % WARPS_N, j) + (odd ? 8 : 0) + quarter / 2 * 4, four);
            }
}
