// z = f(x, y) element by element: 16 bytes a thread, what is left over one element a thread.
//
//   n   elements          ELEMENT   type of all of them, computed in f32

constexpr int VECTOR = 16 / sizeof(ELEMENT);

struct alignas(16) Vector {
    ELEMENT x[VECTOR];
};

template <typename F> __device__ __forceinline__ void map2(const ELEMENT* x, const ELEMENT* y, ELEMENT* z, u64 n, F f) {
    u64 i = (u64(blockIdx.x) * blockDim.x + threadIdx.x) * VECTOR;
    if (i + VECTOR <= n) {
        Vector a = *(const Vector*)(x + i), b = *(const Vector*)(y + i), c;
        for (int j = 0; j < VECTOR; ++j) c.x[j] = from_float<ELEMENT>(f(to_float(a.x[j]), to_float(b.x[j])));
        *(Vector*)(z + i) = c;
    } else {
        for (; i < n; ++i) z[i] = from_float<ELEMENT>(f(to_float(x[i]), to_float(y[i])));
    }
}

extern "C" __global__ void __launch_bounds__(256) add(const ELEMENT* x, const ELEMENT* y, ELEMENT* z, u64 n) {
    map2(x, y, z, n, [](float x, float y) { return x + y; });
}

extern "C" __global__ void __launch_bounds__(256) mul(const ELEMENT* x, const ELEMENT* y, ELEMENT* z, u64 n) {
    map2(x, y, z, n, [](float x, float y) { return x * y; });
}
