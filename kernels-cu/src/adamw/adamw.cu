// One step of AdamW, four elements to a thread, all in f32:
//
//   g <- scale g                 scale   one number on the device (the clipping factor), or null for 1
//   m <- b1 m + (1 - b1) g       v <- b2 v + (1 - b2) g^2
//   w <- keep w - rate (u1 m) / (sqrt(u2 v) + eps)         keep = 1 - rate decay, u = 1 / (1 - b^step)
//   shadow, if not null, gets w in bf16

extern "C" __global__ void __launch_bounds__(256) adamw(float* w_, float* m_, float* v_, const float* g_, const float* scale, bf16* shadow, u64 n, float b1,
                                                        float b2, float u1, float u2, float rate, float keep, float eps, u32 whole) {
    u64 at = (u64(blockIdx.x) * 256 + threadIdx.x) * 4;
    if (at >= n) return;
    u32 count = min(n - at, 4ull);
    float w[4], m[4], v[4], g[4], s = scale ? *scale : 1;
    load_four(w, w_ + at, whole, count);
    load_four(m, m_ + at, whole, count);
    load_four(v, v_ + at, whole, count);
    load_four(g, g_ + at, whole, count);
    for (int i = 0; i < 4; ++i) {
        g[i] *= s;
        m[i] = b1 * m[i] + (1 - b1) * g[i];
        v[i] = b2 * v[i] + (1 - b2) * g[i] * g[i];
        w[i] = w[i] * keep - rate * (m[i] * u1) / (sqrtf(v[i] * u2) + eps);
    }
    store_four(w_ + at, w, whole, count);
    store_four(m_ + at, m, whole, count);
    store_four(v_ + at, v, whole, count);
    if (shadow) store_four(shadow + at, w, whole, count);
}
