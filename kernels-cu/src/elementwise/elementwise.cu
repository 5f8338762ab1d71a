// z = f(x, ...) element by element: 16 bytes a thread; one element at a time at the end, and where an array does not begin at a
// multiple of 16 bytes.
//
//   n   elements          ELEMENT   type of all of them, computed in f32

constexpr int VECTOR = 16 / sizeof(ELEMENT);

struct alignas(16) Vector {
    ELEMENT x[VECTOR];
};

// f takes the K elements of one place, and the place
template <int K, typename F>
__device__ __forceinline__ void map(const ELEMENT* const (&x)[K], ELEMENT* z, u64 n, F f) {
    u64 i = (u64(blockIdx.x) * blockDim.x + threadIdx.x) * VECTOR;
    u64 addresses = u64(z);
#pragma unroll
    for (int k = 0; k < K; ++k) addresses |= u64(x[k]);
    if (addresses % 16 == 0 && i + VECTOR <= n) {
        Vector a[K], c;
#pragma unroll
        for (int k = 0; k < K; ++k) a[k] = *(const Vector*)(x[k] + i);
#pragma unroll
        for (int j = 0; j < VECTOR; ++j) {
            float v[K];
#pragma unroll
            for (int k = 0; k < K; ++k) v[k] = to_float(a[k].x[j]);
            c.x[j] = from_float<ELEMENT>(f(v, i + j));
        }
        *(Vector*)(z + i) = c;
    } else {
        for (u64 end = i + VECTOR < n ? i + VECTOR : n; i < end; ++i) {
            float v[K];
#pragma unroll
            for (int k = 0; k < K; ++k) v[k] = to_float(x[k][i]);
            z[i] = from_float<ELEMENT>(f(v, i));
        }
    }
}

#define UNARY(NAME, VALUE)                                                                              \
    extern "C" __global__ void __launch_bounds__(256) NAME(const ELEMENT* x, ELEMENT* z, u64 n) {       \
        map<1>({x}, z, n, [](const float(&v)[1], u64) { return VALUE; });                               \
    }

UNARY(neg, -v[0])
UNARY(recip, 1 / v[0])
UNARY(exponential, expf(v[0]))
UNARY(logarithm, logf(v[0]))
UNARY(sigmoid, 1 / (1 + expf(-v[0])))
UNARY(reciprocal_root, 1 / sqrtf(v[0]))

// c x
extern "C" __global__ void __launch_bounds__(256) scale(const ELEMENT* x, ELEMENT* z, u64 n, float c) {
    map<1>({x}, z, n, [c](const float(&v)[1], u64) { return c * v[0]; });
}

#define BINARY(NAME, VALUE)                                                                                              \
    extern "C" __global__ void __launch_bounds__(256) NAME(const ELEMENT* x, const ELEMENT* y, ELEMENT* z, u64 n) {      \
        map<2>({x, y}, z, n, [](const float(&v)[2], u64) { return VALUE; });                                             \
    }

BINARY(add, v[0] + v[1])
BINARY(mul, v[0] * v[1])

// x where `choose` is not 0, y elsewhere
extern "C" __global__ void __launch_bounds__(256)
    select(const unsigned char* choose, const ELEMENT* x, const ELEMENT* y, ELEMENT* z, u64 n) {
    map<2>({x, y}, z, n, [choose](const float(&v)[2], u64 i) { return choose[i] ? v[0] : v[1]; });
}

// x where `of` is above `limit`, y elsewhere
extern "C" __global__ void __launch_bounds__(256)
    select_above(const ELEMENT* of, const ELEMENT* x, const ELEMENT* y, ELEMENT* z, u64 n, float limit) {
    map<3>({of, x, y}, z, n, [limit](const float(&v)[3], u64) { return v[0] > limit ? v[1] : v[2]; });
}

// c everywhere
extern "C" __global__ void __launch_bounds__(256) fill(ELEMENT* z, u64 n, float c) {
    u64 i = u64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n) z[i] = from_float<ELEMENT>(c);
}

// From ELEMENT to the other of the two types.
extern "C" __global__ void __launch_bounds__(256) cast(const ELEMENT* x, OTHER* z, u64 n) {
    u64 i = u64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n) z[i] = from_float<OTHER>(to_float(x[i]));
}
