// C = alpha A B' + beta C for so few rows that reading B is all there is to do: no tensor cores. A warp has four columns of C, each lane a piece
// of k at a time.
//
//   grid   sixteens of columns, batch      others as in gemm.cu

constexpr int PIECE = 16 / sizeof(ELEMENT);

struct alignas(16) Piece {
    u32 words[4];
};

__device__ __forceinline__ u32 bits(float x) { return __float_as_uint(x); }
__device__ __forceinline__ u32 bits(bf16 x) { return x.bits; }

// PIECE elements of a row from `at`; zeros beyond `k`. Not `wide`: they come one by one.
__device__ __forceinline__ Piece load_piece(const ELEMENT* row, u32 at, u32 k, bool wide) {
    if (wide) return *(const Piece*)(row + at);
    constexpr u32 EACH = PIECE / 4;  // elements of a word
    Piece piece = {0, 0, 0, 0};
#pragma unroll
    for (u32 i = 0; i < PIECE; ++i)
        if (at + i < k) piece.words[i / EACH] |= bits(row[at + i]) << (16 * (i % EACH));
    return piece;
}

__device__ __forceinline__ float element(const Piece& piece, u32 i) {
    if (PIECE == 4) return __uint_as_float(piece.words[i]);
    return i % 2 ? unpack_high(piece.words[i / 2]) : unpack_low(piece.words[i / 2]);
}

template <int ROWS>
__device__ __forceinline__ void few_rows(const ELEMENT* a, const ELEMENT* b, void* c, u32 m, u32 n, u32 k, u64 stride_a, u64 stride_b, float alpha,
                                         float beta, u32 flags) {
    u32 lane = threadIdx.x % 32, column = (blockIdx.x * (THREADS / 32) + threadIdx.x / 32) * 4;
    if (column >= n) return;
    a += blockIdx.y * stride_a, b += blockIdx.y * stride_b;
    float sums[ROWS][4] = {};
#pragma unroll 1
    for (u32 at = lane * PIECE; at < k; at += 32 * PIECE) {
        Piece columns[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) columns[j] = load_piece(b + u64(min(column + j, n - 1)) * k, at, k, flags & 1);
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
            Piece row = load_piece(a + u64(min(i, m - 1)) * k, at, k, flags & 1);
#pragma unroll
            for (int j = 0; j < 4; ++j)
#pragma unroll
                for (int e = 0; e < PIECE; ++e) sums[i][j] += element(row, e) * element(columns[j], e);
        }
    }
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] = warp_sum(sums[i][j]);
        if (lane == i && i < m) finish(sums[i], (u64(blockIdx.y) * m + i) * n + column, flags & 2, n - column, c, 0, flags & 4, alpha, beta);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) one_row(const ELEMENT* a, const ELEMENT* b, void* c, u32 m, u32 n, u32 k, u64 stride_a,
                                                              u64 stride_b, float alpha, float beta, u32 flags) {
    few_rows<1>(a, b, c, m, n, k, stride_a, stride_b, alpha, beta, flags);
}

extern "C" __global__ void __launch_bounds__(THREADS) four_rows(const ELEMENT* a, const ELEMENT* b, void* c, u32 m, u32 n, u32 k, u64 stride_a,
                                                                u64 stride_b, float alpha, float beta, u32 flags) {
    few_rows<4>(a, b, c, m, n, k, stride_a, stride_b, alpha, beta, flags);
}
