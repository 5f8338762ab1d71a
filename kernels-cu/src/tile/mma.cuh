// Products of small matrices on tensor cores, sm_80: D = A B + D for A [16, K], B [K, 8], D [16, 8] f32.
//
// Lane l holds, with r = l / 4 and c = l % 4:
//   D: rows r and r + 8, columns 2c and 2c + 1                        d[0..2] row r, d[2..4] row r + 8
//   bf16, K = 16: A rows r and r + 8, columns 2c, 2c + 1, 2c + 8, 2c + 9    a[0] row r low columns, a[1] row r + 8, a[2], a[3] high columns
//                 B rows 2c, 2c + 1 (b[0]) and 2c + 8, 2c + 9 (b[1]), column r
//   tf32, K = 8:  A rows r and r + 8, columns c and c + 4                   a[0] (r, c), a[1] (r + 8, c), a[2] (r, c + 4), a[3] (r + 8, c + 4)
//                 B rows c (b[0]) and c + 4 (b[1]), column r

__device__ __forceinline__ void mma_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_tf32(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// x = big + small to 22 bits, each a tf32 (3xTF32: big big + big small + small big is as exact as f32).
__device__ __forceinline__ void split_tf32(float x, u32& big, u32& small) {
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(big) : "f"(x));
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(small) : "f"(x - __uint_as_float(big)));
}

// Four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void ldmatrix(u32 (&x)[4], u32 shared_address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(shared_address)
                 : "memory");
}

// The same, each matrix transposed.
__device__ __forceinline__ void ldmatrix_transposed(u32 (&x)[4], u32 shared_address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(shared_address)
                 : "memory");
}

// Factors of products with 16 inner elements: A with N = 4 and B with N = 2. A float is the sum of three bf16, big to small.
template <typename T, int N> struct Fragment;
template <int N> struct Fragment<bf16, N> {
    u32 x[N];
    __device__ __forceinline__ void set(int i, float low, float high) { x[i] = pack(low, high); }
};
template <int N> struct Fragment<float, N> {
    u32 x[3][N];
    __device__ __forceinline__ void set(int i, float low, float high) {
        for (int part = 0; part < 3; ++part) {
            u32 y = x[part][i] = pack(low, high);
            low -= unpack_low(y), high -= unpack_high(y);
        }
    }
};

// D = A B + D; with floats, six products of bf16 that are together as exact as f32.
__device__ __forceinline__ void multiply(float (&d)[4], const Fragment<bf16, 4>& a, const Fragment<bf16, 2>& b) { mma_bf16(d, a.x, b.x); }
__device__ __forceinline__ void multiply(float (&d)[4], const Fragment<float, 4>& a, const Fragment<float, 2>& b) {
    // the largest products apart from the rest: their sums are exact, or nearly
    float large[4] = {}, rest[4] = {};
    mma_bf16(rest, a.x[2], b.x[0]);
    mma_bf16(rest, a.x[0], b.x[2]);
    mma_bf16(rest, a.x[1], b.x[1]);
    mma_bf16(rest, a.x[1], b.x[0]);
    mma_bf16(rest, a.x[0], b.x[1]);
    mma_bf16(large, a.x[0], b.x[0]);
    for (int i = 0; i < 4; ++i) d[i] += large[i] + rest[i];
}
