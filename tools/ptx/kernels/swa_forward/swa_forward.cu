// Attention over a sliding window, forward: bf16 in and out, sums in f32, head size 64.
//
// q, k, v, o: [heads, length, 64]; lse: [heads, length]. Query i sees keys i - window + 1 to i.
// Grid (ceil(length / 64), heads), 128 threads: a block has 64 queries, a warp 16 of them. Keys and values come in
// tiles of 64, the next tile while the present one is used. Dynamic shared memory: 5 tiles of 8192 bytes.

typedef unsigned int u32;
typedef unsigned short bf16;

static constexpr int HEAD = 64;
static constexpr int TILE = 64;
static constexpr int THREADS = 128;
static constexpr u32 TILE_BYTES = TILE * HEAD * 2;
static constexpr float HIDDEN = -1e30f;

// Address of 16 bytes of a tile: rows of 8 pieces, whose order changes from row to row so that banks do not collide.
__device__ __forceinline__ u32 piece(u32 tile, int row, int column) {
    return tile + row * (HEAD * 2) + ((column ^ (row & 7)) << 4);
}

// Starts the copy of a tile; rows beyond the end are zero.
__device__ __forceinline__ void fetch(u32 tile, const bf16 *from, int first, int length) {
#pragma unroll
    for (int i = 0; i < TILE * 8 / THREADS; i++) {
        int at = i * THREADS + threadIdx.x, row = at >> 3, column = at & 7;
        int there = first + row < length ? 16 : 0;
        const bf16 *source = from + (there ? (size_t)(first + row) * HEAD + column * 8 : 0);
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                     :: "r"(piece(tile, row, column)), "l"(source), "r"(there) : "memory");
    }
}

__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int LEFT> __device__ __forceinline__ void wait() {
    asm volatile("cp.async.wait_group %0;" :: "n"(LEFT) : "memory");
}

__device__ __forceinline__ void load(u32 (&r)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}

__device__ __forceinline__ void load_transposed(u32 (&r)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}

__device__ __forceinline__ void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ u32 pack(float low, float high) {
    u32 packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

__device__ __forceinline__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// `scale` is that of the scores times log2(e).
extern "C" __global__ void __launch_bounds__(THREADS)
swa_forward(const bf16 *q, const bf16 *k, const bf16 *v, bf16 *o, float *lse, int length, int window, float scale) {
    extern __shared__ __align__(128) unsigned char shared[];
    const u32 queries = (u32)__cvta_generic_to_shared(shared);
    const u32 keys = queries + TILE_BYTES, values = keys + 2 * TILE_BYTES;
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    const int first = blockIdx.x * TILE;
    const size_t head = (size_t)blockIdx.y * length;
    q += head * HEAD, k += head * HEAD, v += head * HEAD, o += head * HEAD, lse += head;

    const int from = max(first - window + 1, 0) / TILE;
    const int to = (min(first + TILE, length) - 1) / TILE;
    fetch(queries, q, first, length);
    fetch(keys, k, from * TILE, length);
    fetch(values, v, from * TILE, length);
    commit();

    u32 a[4][4];
    float out[8][4] = {}, most[2] = {HIDDEN, HIDDEN}, sum[2] = {};
    for (int tile = from; tile <= to; tile++) {
        const int stage = (tile - from) & 1;
        if (tile < to) {
            fetch(keys + (stage ^ 1) * TILE_BYTES, k, (tile + 1) * TILE, length);
            fetch(values + (stage ^ 1) * TILE_BYTES, v, (tile + 1) * TILE, length);
            commit();
            wait<1>();
        } else {
            wait<0>();
        }
        __syncthreads();
        if (tile == from) {
#pragma unroll
            for (int i = 0; i < 4; i++) load(a[i], piece(queries, warp * 16 + (lane & 15), 2 * i + (lane >> 4)));
        }

        // scores of 16 queries and 64 keys
        float s[8][4] = {};
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                u32 b[4];
                int row = j * 16 + (lane & 7) + (lane >> 4) * 8;
                load(b, piece(keys + stage * TILE_BYTES, row, 2 * i + (lane >> 3 & 1)));
                multiply(s[2 * j], a[i], b[0], b[1]);
                multiply(s[2 * j + 1], a[i], b[2], b[3]);
            }
        }

        // a lane has two rows, and of each row two neighbours of every eight columns
        const int row = first + warp * 16 + (lane >> 2);
        float highest[2] = {most[0], most[1]};
#pragma unroll
        for (int j = 0; j < 8; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int query = row + (e >> 1) * 8, key = tile * TILE + j * 8 + (lane & 3) * 2 + (e & 1);
                bool seen = key <= query && key > query - window;
                s[j][e] = seen ? s[j][e] * scale : HIDDEN;
                highest[e >> 1] = fmaxf(highest[e >> 1], s[j][e]);
            }
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            highest[h] = fmaxf(highest[h], __shfl_xor_sync(~0u, highest[h], 1));
            highest[h] = fmaxf(highest[h], __shfl_xor_sync(~0u, highest[h], 2));
            float correction = power_of_two(most[h] - highest[h]);
            most[h] = highest[h];
            sum[h] *= correction;
#pragma unroll
            for (int j = 0; j < 8; j++) {
                out[j][2 * h] *= correction;
                out[j][2 * h + 1] *= correction;
            }
        }
#pragma unroll
        for (int j = 0; j < 8; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                s[j][e] = s[j][e] > 0.5f * HIDDEN ? power_of_two(s[j][e] - most[e >> 1]) : 0.f;
                sum[e >> 1] += s[j][e];
            }
        }

#pragma unroll
        for (int i = 0; i < 4; i++) {
            u32 p[4] = {pack(s[2 * i][0], s[2 * i][1]), pack(s[2 * i][2], s[2 * i][3]),
                        pack(s[2 * i + 1][0], s[2 * i + 1][1]), pack(s[2 * i + 1][2], s[2 * i + 1][3])};
#pragma unroll
            for (int j = 0; j < 4; j++) {
                u32 b[4];
                load_transposed(b, piece(values + stage * TILE_BYTES, i * 16 + (lane & 15), 2 * j + (lane >> 4)));
                multiply(out[2 * j], p, b[0], b[1]);
                multiply(out[2 * j + 1], p, b[2], b[3]);
            }
        }
        __syncthreads();
    }

#pragma unroll
    for (int h = 0; h < 2; h++) {
        sum[h] += __shfl_xor_sync(~0u, sum[h], 1);
        sum[h] += __shfl_xor_sync(~0u, sum[h], 2);
        int row = first + warp * 16 + (lane >> 2) + h * 8;
        if (row >= length) continue;
        float inverse = 1.f / sum[h];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            u32 pair = pack(out[j][2 * h] * inverse, out[j][2 * h + 1] * inverse);
            *reinterpret_cast<u32 *>(o + (size_t)row * HEAD + j * 8 + (lane & 3) * 2) = pair;
        }
        if ((lane & 3) == 0) lse[row] = most[h] * 0.6931471805599453f + logf(sum[h]);
    }
}
