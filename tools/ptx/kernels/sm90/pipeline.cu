// C [M, N] f32 = A [M, K] x B [N, K] transposed, bf16, for sm_90a: one warp copies tiles with tensor maps, four multiply
// them with wgmma. The two blocks of a cluster take two tiles of rows and share the tiles of B, of which each copies
// half for both. A tile of C leaves by a bulk copy through a tensor map.
typedef unsigned int u32;
typedef unsigned long long u64;

struct alignas(64) TensorMap {
    u64 opaque[16];
};

constexpr int STAGES = 3, TILE = 64, BYTES = TILE * TILE * 2;

__device__ u32 shared(const void* p) { return (u32)__cvta_generic_to_shared(p); }

__device__ void init(u32 barrier, u32 count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

__device__ void wait(u32 barrier, u32 parity) {
    asm volatile(
        "{\n.reg .pred done;\nAGAIN: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra AGAIN;\n}" ::"r"(barrier),
        "r"(parity) : "memory");
}

__device__ void expect(u32 barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Arrives at the barrier that lies at the same place in another block.
__device__ void arrive(u32 barrier, u32 rank) {
    asm volatile("{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n}" ::"r"(barrier), "r"(rank) : "memory");
}

__device__ void meet() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

__device__ void load(u32 to, const TensorMap* map, int x, int y, u32 barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(to),
                 "l"(map), "r"(x), "r"(y), "r"(barrier) : "memory");
}

__device__ void load_for_all(u32 to, const TensorMap* map, int x, int y, u32 barrier, unsigned short blocks) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to), "l"(map), "r"(x), "r"(y), "r"(barrier), "h"(blocks) : "memory");
}

// A tile of 64 rows of 128 bytes, swizzled within 128 bytes.
__device__ u64 descriptor(u32 address) {
    return (u64)((address & 0x3ffff) >> 4) | 1ull << 16 | (u64)(1024 >> 4) << 32 | 1ull << 62;
}

#define FOUR(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])

__device__ void multiply(float (&d)[32], u64 a, u64 b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, "
                 "%15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, 1, 1, 1, 0, 0;"
                 : FOUR(0), FOUR(4), FOUR(8), FOUR(12), FOUR(16), FOUR(20), FOUR(24), FOUR(28)
                 : "l"(a), "l"(b));
}

extern "C" __global__ void __cluster_dims__(1, 2, 1) __launch_bounds__(160)
    pipeline(const __grid_constant__ TensorMap A, const __grid_constant__ TensorMap B, const __grid_constant__ TensorMap C, int K) {
    extern __shared__ __align__(1024) unsigned char tiles[];
    __shared__ __align__(8) u64 barriers[2 * STAGES];
    u32 rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    u32 a = shared(tiles), b = a + STAGES * BYTES, full = shared(barriers), empty = full + 8 * STAGES;
    int row = blockIdx.y * TILE, column = blockIdx.x * TILE, steps = K / TILE;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            init(full + 8 * s, 1);
            // the four warps of both blocks
            init(empty + 8 * s, 8);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    meet();
    if (threadIdx.x == 128) {
        for (int k = 0; k < steps; k++) {
            int s = k % STAGES, round = k / STAGES;
            if (round > 0) wait(empty + 8 * s, (round + 1) & 1);
            expect(full + 8 * s, 2 * BYTES);
            load(a + s * BYTES, &A, k * TILE, row, full + 8 * s);
            load_for_all(b + s * BYTES + rank * (BYTES / 2), &B, k * TILE, column + rank * (TILE / 2), full + 8 * s, 3);
        }
    } else if (threadIdx.x < 128) {
        float d[32] = {};
        for (int k = 0; k < steps; k++) {
            int s = k % STAGES;
            wait(full + 8 * s, k / STAGES & 1);
            asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
            for (int i = 0; i < 4; i++) multiply(d, descriptor(a + s * BYTES + 32 * i), descriptor(b + s * BYTES + 32 * i));
            asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
            asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
            if (threadIdx.x % 32 < 2) arrive(empty + 8 * s, threadIdx.x % 32);
        }
        // both blocks have read all tiles of the other when its warps are here
        float* out = (float*)tiles;
        int lane = threadIdx.x % 32, top = threadIdx.x / 32 * 16 + lane / 4;
        asm volatile("bar.sync 1, 128;" ::: "memory");
#pragma unroll
        for (int i = 0; i < 32; i++) out[(top + i / 2 % 2 * 8) * TILE + i / 4 * 8 + lane % 4 * 2 + i % 2] = d[i];
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        asm volatile("bar.sync 1, 128;" ::: "memory");
        if (threadIdx.x == 0) {
            asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%1, %2}], [%3];" ::"l"(&C), "r"(column), "r"(row),
                         "r"(a) : "memory");
            asm volatile("cp.async.bulk.commit_group;\ncp.async.bulk.wait_group.read 0;" ::: "memory");
        }
    }
    // nobody leaves while the other block still arrives here
    __syncthreads();
    meet();
}
