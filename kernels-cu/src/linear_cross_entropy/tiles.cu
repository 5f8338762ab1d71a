// What is done to a tile of logits between the products that make it and those that use it. A block takes a row.
//
//   (1) forward:   m' = max(m, z), shrink = e^(m - m'), s <- shrink s + sum e^(z - m'), p = e^(z - m'), r <- shrink r
//       at the end lse = m + log s, nll = lse - z[y], r <- r / s - W[y]
//   (2) backward:  p = e^(z - lse), q = p - onehot(y), dz = dn q + p (Z - alpha)        Z = R W', alpha = R.(r + W[y])
//   (3) double backward, Z = x B':  alpha = sum_j p_j Z_j, ddn = alpha - Z[y]
//   (4) then:      dz2 = dn p (Z - alpha), and dn q
//
//   z, Z   the tile [t, c] f32: logits and the products of cotangents; its columns are first .. first + c of the vocabulary
//   p, q, dz, dz2   tiles [t, c] ELEMENT, factors of the next product; p may lie where z does if ELEMENT is float
//   r      [t, d] f32       m, s, nll, lse, dn, alpha, ddn   [t] f32       ids [t]
//   COLUMNS  most columns of a tile

constexpr int THREADS = 256;
constexpr int WARPS = THREADS / 32;

// Columns of this thread: its number, in steps of the block.
#define EACH_COLUMN(j) for (u32 j = threadIdx.x; j < c; j += THREADS)

// The place of the row's target in the tile; c or more if it is in another.
__device__ __forceinline__ u32 target(const u32* ids, u32 first) { return ids[blockIdx.x] - first; }

extern "C" __global__ void __launch_bounds__(THREADS) forward(const float* z, const u32* ids, ELEMENT* p, float* m, float* s, float* nll, float* r, u32 first, u32 c,
                                                              u32 d) {
    __shared__ float room[2][WARPS];
    u64 row = blockIdx.x;
    // each thread comes back to its own alone
    __shared__ float held[COLUMNS];
    float most = -infinity(), sum = 0;
#pragma unroll 4
    EACH_COLUMN(j) {
        held[j] = z[row * c + j];
        most = fmaxf(most, held[j]);
    }
    float before = first == 0 ? -infinity() : m[row];
    most = fmaxf(block_max<WARPS>(most, room[0]), before);
    float shrink = expf(before - most);
    u32 hit = target(ids, first);
#pragma unroll 4
    EACH_COLUMN(j) {
        if (j == hit) nll[row] = -held[j];
        float x = expf(held[j] - most);
        sum += x;
        // p may lie where z does
        p[row * c + j] = from_float<ELEMENT>(x);
    }
    sum = block_sum<WARPS>(sum, room[1]);
    if (threadIdx.x == 0) {
        s[row] = first == 0 ? sum : s[row] * shrink + sum;
        m[row] = most;
    }
    // few tiles have a larger number than all before
    if (r && first != 0 && shrink != 1)
        for (u32 j = threadIdx.x; j < d; j += THREADS) r[row * d + j] *= shrink;
}

extern "C" __global__ void __launch_bounds__(THREADS) forward_end(const ELEMENT* w, const u32* ids, const float* m, const float* s, float* nll, float* lse, const float* sum_r,
                                                                  ELEMENT* r, u32 d) {
    u64 row = blockIdx.x;
    float total = s[row], log = m[row] + logf(total);
    if (threadIdx.x == 0) {
        lse[row] = log;
        nll[row] += log;
    }
    if (r)
        for (u32 j = threadIdx.x; j < d; j += THREADS)
            r[row * d + j] = from_float<ELEMENT>(sum_r[row * d + j] / total - to_float(w[u64(ids[row]) * d + j]));
}

// alpha = R.(r + W[y])
extern "C" __global__ void __launch_bounds__(THREADS) row_dots(const ELEMENT* R, const ELEMENT* r, const ELEMENT* w, const u32* ids, float* alpha, u32 d) {
    __shared__ float room[2][WARPS];
    u64 row = blockIdx.x, word = ids[row];
    float a = 0, b = 0;
    for (u32 j = threadIdx.x; j < d; j += THREADS) {
        float x = to_float(R[row * d + j]);
        a += x * to_float(r[row * d + j]);
        b += x * to_float(w[word * d + j]);
    }
    a = block_sum<WARPS>(a, room[0]);
    b = block_sum<WARPS>(b, room[1]);
    if (threadIdx.x == 0) alpha[row] = a + b;
}

// dn null: zero. Z and alpha null: no R, and q is not wanted.
extern "C" __global__ void __launch_bounds__(THREADS) backward(const float* z, const float* Z, const u32* ids, const float* lse, const float* dn, const float* alpha,
                                                               ELEMENT* dz, ELEMENT* q, u32 first, u32 c) {
    u64 row = blockIdx.x;
    float log = lse[row], n = dn ? dn[row] : 0, a = alpha ? alpha[row] : 0;
    u32 hit = target(ids, first);
#pragma unroll 4
    EACH_COLUMN(j) {
        u64 at = row * c + j;
        float p = expf(z[at] - log);
        float x = p * ((Z ? Z[at] : 0) + (n - a));
        if (j == hit) x -= n;
        dz[at] = from_float<ELEMENT>(x);
        if (q) q[at] = from_float<ELEMENT>(j == hit ? p - 1 : p);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    row_alpha(const float* z, const float* Z, const u32* ids, const float* lse, float* alpha, float* ddn, u32 first, u32 c) {
    __shared__ float room[WARPS];
    u64 row = blockIdx.x;
    float log = lse[row], sum = 0;
    u32 hit = target(ids, first);
#pragma unroll 4
    EACH_COLUMN(j) sum += expf(z[row * c + j] - log) * Z[row * c + j];
    sum = block_sum<WARPS>(sum, room);
    if (threadIdx.x == 0) {
        if (first != 0) sum += alpha[row];
        alpha[row] = sum;
        if (first == 0) ddn[row] = 0;
        if (hit < c) ddn[row] = -Z[row * c + hit];
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) double_backward(const float* z, const float* Z, const u32* ids, const float* lse, const float* dn, const float* alpha,
                                                                      ELEMENT* dz2, ELEMENT* dnq, float* ddn, u32 first, u32 c) {
    u64 row = blockIdx.x;
    float log = lse[row], n = dn[row], a = alpha[row];
    u32 hit = target(ids, first);
#pragma unroll 4
    EACH_COLUMN(j) {
        u64 at = row * c + j;
        float p = n * expf(z[at] - log);
        dz2[at] = from_float<ELEMENT>(p * (Z[at] - a));
        dnq[at] = from_float<ELEMENT>(j == hit ? p - n : p);
    }
    // once: with the first tile
    if (first == 0 && threadIdx.x == 0) ddn[row] += a;
}

// Sums of f32 as elements.
extern "C" __global__ void __launch_bounds__(THREADS) round_sums(const float* x, ELEMENT* y, u64 n) {
    u64 i = u64(blockIdx.x) * THREADS + threadIdx.x;
    if (i < n) y[i] = from_float<ELEMENT>(x[i]);
}
