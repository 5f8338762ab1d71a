// Rotary position embedding: y1 = x1 cos - x2 sin, y2 = x2 cos + x1 sin on the two halves of each head.
//
//   x, y [t, n, 2 HALF]     cos, sin [t, HALF] f32     sign   -1 turns back
//   VECTOR   neighbouring pairs of a thread; it takes those of all heads of a position, so that tables are read once

template <typename T> struct alignas(VECTOR * sizeof(T)) Vector {
    T x[VECTOR];
};

extern "C" __global__ void __launch_bounds__(128) rotate(const ELEMENT* x, const float* cos, const float* sin, ELEMENT* y, u64 t, u32 n, float sign) {
    u64 thread = u64(blockIdx.x) * 128 + threadIdx.x;
    u64 p = thread / (HALF / VECTOR);
    if (p >= t) return;
    u32 i = u32(thread % (HALF / VECTOR)) * VECTOR;
    auto c = load_whole<Vector<float>>(cos + p * HALF + i), s = load_whole<Vector<float>>(sin + p * HALF + i);
    for (u32 head = 0; head < n; ++head) {
        u64 at = (p * n + head) * (2 * HALF) + i;
        auto x1 = load_whole<Vector<ELEMENT>>(x + at), x2 = load_whole<Vector<ELEMENT>>(x + at + HALF), y1 = x1, y2 = x2;
#pragma unroll
        for (int j = 0; j < VECTOR; ++j) {
            float a = to_float(x1.x[j]), b = to_float(x2.x[j]);
            float cos = c.x[j], sin = sign * s.x[j];
            y1.x[j] = from_float<ELEMENT>(a * cos - b * sin);
            y2.x[j] = from_float<ELEMENT>(b * cos + a * sin);
        }
        store_whole(y + at, y1);
        store_whole(y + at + HALF, y2);
    }
}
