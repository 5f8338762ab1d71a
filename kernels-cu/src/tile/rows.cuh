// Tiles of rows in shared memory, products of their rows, and sums over their rows. T is bf16 or float.
//
// A row is PIECES pieces of 16 bytes, whose order changes from row to row: the same piece of eight rows lies in different banks.
// A *step* is 16 elements of a row, the inner dimension of one product. A warp works on 16 R rows; its sums x[i][j] are rows 16 i and
// columns 8 j of a matrix, laid out as tensor cores give them (see mma.cuh).

template <typename T, int COLUMNS> struct Tile {
    static_assert(COLUMNS % 16 == 0, "rows of whole steps");
    static constexpr int STEPS = COLUMNS / 16, USED = COLUMNS * sizeof(T) / 16;
    static constexpr int PIECES = sizeof(T) == 4 ? (USED + 7) / 8 * 8 : USED;
    static constexpr int PITCH = PIECES * 16;
    static constexpr int BITS = PIECES % 8 == 0 ? 3 : PIECES % 4 == 0 ? 2 : 1;

    static __device__ __forceinline__ u32 turn(int row) { return row >> (3 - BITS) & ((1 << BITS) - 1); }

    // Starts copies of ROWS rows, `stride` elements apart, of WIDTH elements; zeros stand for rows from `count` on and for columns
    // from WIDTH on.
    template <int ROWS, int WIDTH, int THREADS>
    static __device__ __forceinline__ void copy(u32 to, const T* from, u32 stride, int count) {
#pragma unroll
        for (int first = 0; first < ROWS * USED; first += THREADS) {
            int i = first + threadIdx.x, row = i / USED, piece = i % USED;
            if (first + THREADS > ROWS * USED && i >= ROWS * USED) break;
            bool there = row < count && (WIDTH == COLUMNS || piece < int(WIDTH * sizeof(T) / 16));
            copy_16(to + row * PITCH + ((piece ^ turn(row)) * 16), from + (u64(u32(row)) * stride + piece * (16 / sizeof(T))), there);
        }
    }

    // Address for this lane in a load of four matrices of 8 rows and 16 bytes: rows from `row` on (a multiple of 8), piece 2 `pair`
    // and the next; first along the rows (16 of them).
    static __device__ __forceinline__ u32 tall(u32 tile, int row, int pair) {
        u32 lane = threadIdx.x % 32, r = lane % 16;
        return tile + r * PITCH + row * PITCH + (pair * 32 ^ (lane / 16 ^ turn(r)) * 16);
    }

    // The same, first along the pieces.
    static __device__ __forceinline__ u32 wide(u32 tile, int row, int pair) {
        u32 lane = threadIdx.x % 32, r = lane % 8 + lane / 16 * 8;
        return tile + r * PITCH + row * PITCH + (pair * 32 ^ (lane / 8 % 2 ^ turn(r)) * 16);
    }

    static __device__ __forceinline__ float element(u32 tile, int row, u32 column) {
        return __uint_as_float(load_shared(tile + row * PITCH + (column / 4 ^ turn(row)) * 16 + column % 4 * 4));
    }

    // 16 rows and a step as the factor A. The inner elements of floats are in an order of their own, the same as in `load_columns`.
    static __device__ __forceinline__ void load(Fragment<T, 4>& a, u32 tile, int row, int step) {
        if constexpr (sizeof(T) == 2) {
            ldmatrix(a.x, tall(tile, row, step));
        } else {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                u32 x[4];
                ldmatrix(x, tall(tile, row, 2 * step + half));
#pragma unroll
                for (int i = 0; i < 2; ++i) a.set(2 * half + i, __uint_as_float(x[i]), __uint_as_float(x[i + 2]));
            }
        }
    }

    // 16 rows and a step, as the columns of two factors B.
    static __device__ __forceinline__ void load_columns(Fragment<T, 2> (&b)[2], u32 tile, int row, int step) {
#pragma unroll
        for (int half = 0; half < int(sizeof(T)) / 2; ++half) {
            u32 x[4];
            ldmatrix(x, wide(tile, row, int(sizeof(T)) / 2 * step + half));
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                if constexpr (sizeof(T) == 2) {
                    b[i].x[0] = x[2 * i], b[i].x[1] = x[2 * i + 1];
                } else {
                    b[i].set(half, __uint_as_float(x[2 * i]), __uint_as_float(x[2 * i + 1]));
                }
            }
        }
    }

    // 16 rows and 16 columns from 16 `pair` on, as the rows of two factors B.
    static __device__ __forceinline__ void load_rows(Fragment<T, 2> (&b)[2], u32 tile, int row, int pair) {
        if constexpr (sizeof(T) == 2) {
            u32 x[4];
            ldmatrix_transposed(x, tall(tile, row, pair));
#pragma unroll
            for (int i = 0; i < 4; ++i) b[i / 2].x[i % 2] = x[i];
        } else {
            int r = row + threadIdx.x % 4 * 2, column = 16 * pair + threadIdx.x % 32 / 4;
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                int at = r + i % 2 * 8, of = column + i / 2 * 8;
                b[i / 2].set(i % 2, element(tile, at, of), element(tile, at + 1, of));
            }
        }
    }
};

// 16 R rows of a tile as the factor A of products: in registers if KEPT, else loaded when they are used.
template <typename T, int COLUMNS, int R, bool KEPT> struct Factor {
    using Rows = Tile<T, COLUMNS>;
    u32 at;
    Fragment<T, 4> x[KEPT ? R : 1][KEPT ? Rows::STEPS : 1];

    __device__ __forceinline__ void load(u32 tile, int row) {
        at = tile + row * Rows::PITCH;
        if constexpr (KEPT) {
#pragma unroll
            for (int i = 0; i < R; ++i) {
#pragma unroll
                for (int step = 0; step < Rows::STEPS; ++step) Rows::load(x[i][step], at, 16 * i, step);
            }
        }
    }

    __device__ __forceinline__ void get(Fragment<T, 4>& a, int i, int step) const {
        if constexpr (KEPT) {
            a = x[i][step];
        } else {
            Rows::load(a, at, 16 * i, step);
        }
    }
};

// s += x z' for N rows z of a tile, from `row` on.
template <typename T, int COLUMNS, int R, int N, bool KEPT>
__device__ __forceinline__ void add_products(float (&s)[R][N / 8][4], const Factor<T, COLUMNS, R, KEPT>& x, u32 tile, int row) {
    using Rows = Tile<T, COLUMNS>;
#pragma unroll(sizeof(T) == 2 ? Rows::STEPS : 1)
    for (int step = 0; step < Rows::STEPS; ++step) {
        Fragment<T, 4> a[R];
#pragma unroll
        for (int i = 0; i < R; ++i) x.get(a[i], i, step);
#pragma unroll
        for (int j = 0; j < N / 16; ++j) {
            Fragment<T, 2> b[2];
            Rows::load_columns(b, tile, row + 16 * j, step);
#pragma unroll
            for (int i = 0; i < R; ++i) {
                multiply(s[i][2 * j], a[i], b[0]);
                multiply(s[i][2 * j + 1], a[i], b[1]);
            }
        }
    }
}

// s += x z' and g += y z': z is loaded once.
template <typename T, int COLUMNS, int R, int N, bool KEPT>
__device__ __forceinline__ void add_products(float (&s)[R][N / 8][4], float (&g)[R][N / 8][4], const Factor<T, COLUMNS, R, KEPT>& x,
                                             const Factor<T, COLUMNS, R, KEPT>& y, u32 tile, int row) {
    using Rows = Tile<T, COLUMNS>;
#pragma unroll(sizeof(T) == 2 ? Rows::STEPS : 1)
    for (int step = 0; step < Rows::STEPS; ++step) {
        Fragment<T, 4> a[R], c[R];
#pragma unroll
        for (int i = 0; i < R; ++i) x.get(a[i], i, step), y.get(c[i], i, step);
#pragma unroll
        for (int j = 0; j < N / 16; ++j) {
            Fragment<T, 2> b[2];
            Rows::load_columns(b, tile, row + 16 * j, step);
#pragma unroll
            for (int i = 0; i < R; ++i) {
                multiply(s[i][2 * j], a[i], b[0]);
                multiply(s[i][2 * j + 1], a[i], b[1]);
                multiply(g[i][2 * j], c[i], b[0]);
                multiply(g[i][2 * j + 1], c[i], b[1]);
            }
        }
    }
}

// s += x z' and g += x w' for N rows z of a tile and w of another: x is loaded once.
template <typename T, int COLUMNS, int R, int N, bool KEPT>
__device__ __forceinline__ void add_products(float (&s)[R][N / 8][4], float (&g)[R][N / 8][4], const Factor<T, COLUMNS, R, KEPT>& x, u32 tile,
                                             u32 other, int row) {
    using Rows = Tile<T, COLUMNS>;
#pragma unroll(sizeof(T) == 2 ? Rows::STEPS : 1)
    for (int step = 0; step < Rows::STEPS; ++step) {
        Fragment<T, 4> a[R];
#pragma unroll
        for (int i = 0; i < R; ++i) x.get(a[i], i, step);
#pragma unroll
        for (int j = 0; j < N / 16; ++j) {
            Fragment<T, 2> b[2], c[2];
            Rows::load_columns(b, tile, row + 16 * j, step);
            Rows::load_columns(c, other, row + 16 * j, step);
#pragma unroll
            for (int i = 0; i < R; ++i) {
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    multiply(s[i][2 * j + e], a[i], b[e]);
                    multiply(g[i][2 * j + e], a[i], c[e]);
                }
            }
        }
    }
}

// y += p z for N rows z of a tile, from `row` on, of which WIDTH columns from `column` on (multiples of 16); p is rounded to T.
template <typename T, int COLUMNS, int R, int N, int WIDTH = COLUMNS>
__device__ __forceinline__ void add_sums(float (&y)[R][WIDTH / 8][4], const float (&p)[R][N / 8][4], u32 tile, int row, int column = 0) {
    using Rows = Tile<T, COLUMNS>;
#pragma unroll
    for (int j = 0; j < N / 16; ++j) {
        Fragment<T, 4> a[R];
#pragma unroll
        for (int i = 0; i < R; ++i) {
#pragma unroll
            for (int e = 0; e < 4; ++e) a[i].set(e, p[i][2 * j + e / 2][e % 2 * 2], p[i][2 * j + e / 2][e % 2 * 2 + 1]);
        }
#pragma unroll
        for (int pair = 0; pair < WIDTH / 16; ++pair) {
            Fragment<T, 2> b[2];
            Rows::load_rows(b, tile, row + 16 * j, column / 16 + pair);
#pragma unroll
            for (int i = 0; i < R; ++i) {
                multiply(y[i][2 * pair], a[i], b[0]);
                multiply(y[i][2 * pair + 1], a[i], b[1]);
            }
        }
    }
}

// Writes `scale` y to WIDTH columns of rows `stride` elements apart, those of them that are below `columns`; the first row is this
// warp's, of which `count` are there.
template <typename T, int WIDTH, int R>
__device__ __forceinline__ void store_rows(T* to, u32 stride, const float (&y)[R][WIDTH / 8][4], float scale, int count, int columns) {
    int lane = threadIdx.x % 32, c = lane % 4;
#pragma unroll
    for (int i = 0; i < 2 * R; ++i) {
        const int row = 8 * i + lane / 4, low = i % 2 * 2, high = low + 1;
        const auto& x = y[i / 2];
        T* at = to + u64(u32(row)) * stride;
        if constexpr (sizeof(T) == 2) {
            // 32 bytes of a row by four lanes: each takes 8 of them from two lanes that have 4
#pragma unroll
            for (int j = 0; j < WIDTH / 8; j += 2) {
                u32 even = pack(scale * x[j][low], scale * x[j][high]), odd = pack(scale * x[j + 1][low], scale * x[j + 1][high]), z[2];
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    int from = lane / 4 * 4 + c % 2 * 2 + e;
                    u32 of_even = __shfl_sync(~0u, even, from), of_odd = __shfl_sync(~0u, odd, from);
                    z[e] = c < 2 ? of_even : of_odd;
                }
                if (row < count && 8 * j + 4 * c < columns) *(uint2*)(at + 8 * j + 4 * c) = make_uint2(z[0], z[1]);
            }
        } else {
#pragma unroll
            for (int j = 0; j < WIDTH / 8; ++j) {
                if (row < count && 8 * j < columns) *(float2*)(at + 8 * j + 2 * c) = make_float2(scale * x[j][low], scale * x[j][high]);
            }
        }
    }
}
