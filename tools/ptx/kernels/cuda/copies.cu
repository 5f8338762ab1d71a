// A matrix product that hides its loads: asynchronous copies in a pipeline of three stages, barriers in shared memory, ldmatrix, mma.

#include <cuda_bf16.h>

static const int TILE = 32, STAGES = 3;

__device__ unsigned shared_address(const void* pointer) { return __cvta_generic_to_shared(pointer); }

__device__ void copy16(void* to, const void* from, bool inside) {
    int bytes = inside ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes));
}

/// Element (row, column) of a tile of 32 x 32; rows of 64 bytes are swizzled in pieces of 16.
__device__ int place(int row, int column) { return row * TILE + ((column / 8 ^ (row / 2 & 3)) * 8 + column % 8); }

/// C [m, n] f32 = A [m, k] B [n, k]^T, bf16; m, n, k are any multiples of 8. 64 threads per tile of 32 x 32.
extern "C" __global__ void __launch_bounds__(64) product_swizzled(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int m, int n, int k) {
    __shared__ __align__(128) __nv_bfloat16 tile_a[STAGES][TILE * TILE], tile_b[STAGES][TILE * TILE];
    int t = threadIdx.x, lane = t % 32, warp = t / 32, row0 = blockIdx.y * TILE, column0 = blockIdx.x * TILE;
    auto load = [&](int step) {
        int stage = step % STAGES;
        for (int piece = t; piece < TILE * TILE / 8; piece += 64) {
            int row = piece / 4, column = piece % 4 * 8, inner = step * TILE + column;
            bool in_a = row0 + row < m && inner < k, in_b = column0 + row < n && inner < k;
            copy16(&tile_a[stage][place(row, column)], a + (in_a ? (row0 + row) * k + inner : 0), in_a);
            copy16(&tile_b[stage][place(row, column)], b + (in_b ? (column0 + row) * k + inner : 0), in_b);
        }
    };
    int steps = (k + TILE - 1) / TILE;
    for (int step = 0; step < STAGES - 1; step++) {
        if (step < steps) load(step);
        asm volatile("cp.async.commit_group;");
    }
    float sum[4][4] = {};
    for (int step = 0; step < steps; step++) {
        asm volatile("cp.async.wait_group 1;");
        __syncthreads();
        if (step + STAGES - 1 < steps) load(step + STAGES - 1);
        asm volatile("cp.async.commit_group;");
        int stage = step % STAGES;
        for (int inner = 0; inner < TILE; inner += 16) {
            unsigned fa[4], fb[4][2];
            int row = warp * 16 + lane % 16, column = inner + lane / 16 * 8;
            asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                         : "=r"(fa[0]), "=r"(fa[1]), "=r"(fa[2]), "=r"(fa[3])
                         : "r"(shared_address(&tile_a[stage][place(row, column)])));
            for (int j = 0; j < 4; j++) {
                int r = j * 8 + lane % 8, col = inner + lane / 8 % 2 * 8;
                asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                             : "=r"(fb[j][0]), "=r"(fb[j][1])
                             : "r"(shared_address(&tile_b[stage][place(r, col)])));
                asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                             : "+f"(sum[j][0]), "+f"(sum[j][1]), "+f"(sum[j][2]), "+f"(sum[j][3])
                             : "r"(fa[0]), "r"(fa[1]), "r"(fa[2]), "r"(fa[3]), "r"(fb[j][0]), "r"(fb[j][1]));
            }
        }
    }
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < 4; i++) {
            int row = row0 + warp * 16 + lane / 4 + i / 2 * 8, column = column0 + j * 8 + lane % 4 * 2 + i % 2;
            if (row < m && column < n) c[row * n + column] = sum[j][i];
        }
}

/// out[i] = 2 x[i]: one warp copies, the other waits at a barrier in shared memory for what was copied.
extern "C" __global__ void handed_over(const float4* x, float4* out, int rounds) {
    __shared__ float4 buffer[2][32];
    __shared__ unsigned long long full[2], empty[2];
    int lane = threadIdx.x % 32;
    if (threadIdx.x == 0)
        for (int stage = 0; stage < 2; stage++) {
            asm volatile("mbarrier.init.shared.b64 [%0], 32;" ::"r"(shared_address(&full[stage])));
            asm volatile("mbarrier.init.shared.b64 [%0], 32;" ::"r"(shared_address(&empty[stage])));
        }
    __syncthreads();
    auto wait = [](unsigned long long* barrier, int parity) {
        asm volatile("{ .reg .pred p; again: mbarrier.test_wait.parity.shared.b64 p, [%0], %1; @!p bra again; }" ::"r"(shared_address(barrier)), "r"(parity));
    };
    for (int round = 0; round < rounds; round++) {
        int stage = round % 2, turn = round / 2 % 2;
        if (threadIdx.x < 32) {
            wait(&empty[stage], turn ^ 1);
            copy16(&buffer[stage][lane], &x[round * 32 + lane], true);
            asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(&full[stage])));
        } else {
            wait(&full[stage], turn);
            float4 v = buffer[stage][lane];
            out[round * 32 + lane] = make_float4(2 * v.x, 2 * v.y, 2 * v.z, 2 * v.w);
            unsigned long long token;
            asm volatile("mbarrier.arrive.shared.b64 %0, [%1];" : "=l"(token) : "r"(shared_address(&empty[stage])));
        }
    }
}
