// Rows of d elements by their numbers, and the adjoint. A thread takes VECTOR neighbouring elements of a row.
//
//   ELEMENT  type of all arrays; sums are f32       VECTOR   elements of 16 bytes, or 1
//   pieces   d / VECTOR

constexpr int THREADS = 256;

struct alignas(VECTOR * sizeof(ELEMENT)) Vector {
    ELEMENT x[VECTOR];
};

// y[i] = x[ids[i]]
extern "C" __global__ void __launch_bounds__(THREADS) gather(const Vector* x, const u32* ids, Vector* y, u32 count, u32 pieces) {
    u32 at = blockIdx.x * THREADS + threadIdx.x;
    if (at >= count * pieces) return;
    u32 i = at / pieces, piece = at - i * pieces;
    store_whole(y + at, load_whole<Vector>(x + u64(ids[i]) * pieces + piece));
}

// y[r] = sum of x[i] over i in order[starts[r] .. starts[r + 1]]
extern "C" __global__ void __launch_bounds__(THREADS)
    scatter_add(const Vector* x, const u32* starts, const u32* order, Vector* y, u32 rows, u32 pieces) {
    u32 at = blockIdx.x * THREADS + threadIdx.x;
    if (at >= rows * pieces) return;
    u32 r = at / pieces, piece = at - r * pieces;
    float sum[VECTOR] = {};
    u32 end = starts[r + 1];
#pragma unroll 4
    for (u32 j = starts[r]; j < end; ++j) {
        Vector v = *(x + u64(order[j]) * pieces + piece);
#pragma unroll
        for (int k = 0; k < VECTOR; ++k) sum[k] += to_float(v.x[k]);
    }
    Vector v;
#pragma unroll
    for (int k = 0; k < VECTOR; ++k) v.x[k] = from_float<ELEMENT>(sum[k]);
    store_whole(y + at, v);
}
