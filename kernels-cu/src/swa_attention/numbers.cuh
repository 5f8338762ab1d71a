// Two numbers for each query, [n, pitch, 2] in global memory, and loops over a warp's scores.

// Row and column of element e of a warp's sums x[r][j][e].
__device__ __forceinline__ int row_in_warp(int r, int e) { return 16 * r + e / 2 * 8 + threadIdx.x % 32 / 4; }
__device__ __forceinline__ int column_in_step(int j, int e) { return 8 * j + threadIdx.x % 4 * 2 + e % 2; }

// f(r, j, e) for each element.
template <int R, int N, typename F> __device__ __forceinline__ void each(F f) {
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
        for (int j = 0; j < N / 8; ++j) {
#pragma unroll
            for (int e = 0; e < 4; ++e) f(r, j, e);
        }
    }
}

// The numbers of this lane's rows, which are queries from `first` on; those of rows that are not there hide all keys.
template <int R> struct RowNumbers {
    float2 x[R][2];

    __device__ __forceinline__ RowNumbers(const float2* of_head, int first, int pitch) {
#pragma unroll
        for (int i = 0; i < 2 * R; ++i) {
            int row = first + row_in_warp(i / 2, i % 2 * 2);
            x[i / 2][i % 2] = row < pitch ? of_head[row] : make_float2(infinity(), 0);
        }
    }
};

// Starts copies of the numbers of SIZE queries from `first` on, which is even, as pitch is.
template <int SIZE> __device__ __forceinline__ void copy_numbers(u32 to, const float2* of_head, int first, int pitch) {
    int i = threadIdx.x * 2;
    if (i < SIZE) copy_16(to + i * 8, of_head + first + i, first + i < pitch);
}

__device__ __forceinline__ float number(u32 numbers, int query, int which) {
    return __uint_as_float(load_shared(numbers + query * 8 + which * 4));
}

// f(r, j, e, two numbers of the query in that column) for each element; columns are queries from `at` on of a tile's numbers.
template <int R, int N, typename F> __device__ __forceinline__ void each_column(u32 numbers, int at, F f) {
#pragma unroll
    for (int j = 0; j < N / 8; ++j) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            int query = at + column_in_step(j, e);
            float x = number(numbers, query, 0), y = number(numbers, query, 1);
#pragma unroll
            for (int r = 0; r < R; ++r) f(r, j, e, x, y), f(r, j, e + 2, x, y);
        }
    }
}
