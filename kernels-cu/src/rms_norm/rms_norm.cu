// y = x r w with r = (mean(x^2) + eps)^(-1/2) over rows of D elements, and its two derivatives.
//
//   xh = x r, u = dy w, m = mean(xh u)
//   (1) dx = r (u - xh m)             dw = sum over rows of dy xh
//   cotangents A of dx, B of dw; a = mean(A xh), e = A.u - D a m:
//   (2) ddy = w r (A - a xh) + B xh   dw2 = sum over rows of dy r (A - a xh)
//   (3) h = B dy - r (m A + a u)      dx2 = r (h - xh (mean(h xh) + r e / D))
//
//   D        elements of a row                    TEAM     threads of a row, 32 or all of the block
//   ELEMENT  of x, y, A and their gradients       WEIGHT   of w, B and their gradients
//   VECTOR   neighbouring elements of a thread    THREADS  of a block
//   rows     rows of all arrays
//
// A thread holds its elements of a row in registers. Sums over rows are taken by each team over rows of its own, then over the teams of a
// block, then over blocks, always in the same order.

constexpr int TEAMS = THREADS / TEAM;
// vectors of a thread
constexpr int COUNT = (D + TEAM * VECTOR - 1) / (TEAM * VECTOR);
constexpr int HELD = COUNT * VECTOR;

template <typename T> struct alignas(VECTOR * sizeof(T)) Vector {
    T x[VECTOR];
};

// The i-th vector of this thread starts here.
__device__ __forceinline__ int place(int i) { return (i * TEAM + threadIdx.x % TEAM) * VECTOR; }

template <typename T> __device__ __forceinline__ void load(float (&x)[HELD], const T* row) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        Vector<T> v;
        bool there = place(i) < D;
        if (there) v = *(const Vector<T>*)(row + place(i));
        for (int j = 0; j < VECTOR; ++j) x[i * VECTOR + j] = there ? to_float(v.x[j]) : 0.0f;
    }
}

template <typename T> __device__ __forceinline__ void store(T* row, const float (&x)[HELD]) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        Vector<T> v;
        for (int j = 0; j < VECTOR; ++j) v.x[j] = from_float<T>(x[i * VECTOR + j]);
        if (place(i) < D) store_whole(row + place(i), v);
    }
}

// N sums over the team, the same in all its threads.
template <int N> __device__ __forceinline__ void team_sum(float (&x)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = warp_sum(x[i]);
    if (TEAM > 32) {
        __shared__ float room[N][THREADS / 32];
#pragma unroll
        for (int i = 0; i < N; ++i)
            if (threadIdx.x % 32 == 0) room[i][threadIdx.x / 32] = x[i];
        __syncthreads();
#pragma unroll
        for (int i = 0; i < N; ++i) {
            x[i] = 0;
            for (int warp = 0; warp < THREADS / 32; ++warp) x[i] += room[i][warp];
        }
        __syncthreads();
    }
}

__device__ __forceinline__ float dot(const float (&x)[HELD], const float (&y)[HELD]) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < HELD; ++i) sum += x[i] * y[i];
    return sum;
}

__device__ __forceinline__ float reciprocal_rms(float squares, float eps) { return 1 / sqrtf(squares / D + eps); }

// Where sums of a column are kept: first elements of vectors first, so that neighbouring threads use neighbouring banks.
__device__ __forceinline__ int slot(int column) { return column % VECTOR * (D / VECTOR) + column / VECTOR; }

// Adds this block's teams and leaves the block's sum over its rows.
__device__ __forceinline__ void leave(float* partial, const float (&sum)[HELD]) {
    __shared__ float room[TEAMS][D];
    int team = threadIdx.x / TEAM;
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
        for (int j = 0; j < VECTOR; ++j)
            if (place(i) < D) room[team][slot(place(i) + j)] = sum[i * VECTOR + j];
    __syncthreads();
    for (int i = threadIdx.x; i < D; i += THREADS) {
        float total = 0;
        for (int team = 0; team < TEAMS; ++team) total += room[team][i];
        partial[u64(blockIdx.x) * D + i] = total;
    }
}

// Rows of this team: from its number on, in steps of all teams.
#define EACH_ROW(row) for (u64 row = u64(blockIdx.x) * TEAMS + threadIdx.x / TEAM, step = u64(gridDim.x) * TEAMS; row < rows; row += step)

extern "C" __global__ void __launch_bounds__(THREADS) forward(const ELEMENT* x, const WEIGHT* w, ELEMENT* y, u64 rows, float eps) {
    float w_[HELD];
    load(w_, w);
    EACH_ROW(row) {
        float x_[HELD];
        load(x_, x + row * D);
        float sums[1] = {dot(x_, x_)};
        team_sum(sums);
        float r = reciprocal_rms(sums[0], eps);
#pragma unroll
        for (int i = 0; i < HELD; ++i) x_[i] = x_[i] * r * w_[i];
        store(y + row * D, x_);
    }
}

// partial, if not null, gets the sum of dy xh over each block's rows.
extern "C" __global__ void __launch_bounds__(THREADS)
    backward(const ELEMENT* x, const WEIGHT* w, const ELEMENT* dy, ELEMENT* dx, float* partial, u64 rows, float eps) {
    float w_[HELD], dw[HELD] = {};
    load(w_, w);
    EACH_ROW(row) {
        float x_[HELD], dy_[HELD];
        load(x_, x + row * D);
        load(dy_, dy + row * D);
        float sums[2] = {dot(x_, x_), 0};
#pragma unroll
        for (int i = 0; i < HELD; ++i) sums[1] += x_[i] * dy_[i] * w_[i];
        team_sum(sums);
        float r = reciprocal_rms(sums[0], eps);
        float m = r * sums[1] / D;
#pragma unroll
        for (int i = 0; i < HELD; ++i) {
            float xh = x_[i] * r;
            dw[i] += dy_[i] * xh;
            x_[i] = r * (dy_[i] * w_[i] - xh * m);
        }
        store(dx + row * D, x_);
    }
    if (partial) leave(partial, dw);
}

// A and B may each be null: a cotangent that is zero.
extern "C" __global__ void __launch_bounds__(THREADS)
    double_backward(const ELEMENT* x, const WEIGHT* w, const ELEMENT* dy, const ELEMENT* A, const WEIGHT* B, ELEMENT* dx2, float* partial, ELEMENT* ddy,
                    u64 rows, float eps) {
    float w_[HELD], b[HELD] = {}, dw2[HELD] = {};
    load(w_, w);
    if (B) load(b, B);
    EACH_ROW(row) {
        float x_[HELD], dy_[HELD], a_[HELD] = {};
        load(x_, x + row * D);
        load(dy_, dy + row * D);
        if (A) load(a_, A + row * D);
        // x.x, A.x, u.x, A.u, (B dy).x
        float sums[5] = {};
#pragma unroll
        for (int i = 0; i < HELD; ++i) {
            float u = dy_[i] * w_[i];
            sums[0] += x_[i] * x_[i];
            sums[1] += a_[i] * x_[i];
            sums[2] += u * x_[i];
            sums[3] += a_[i] * u;
            sums[4] += b[i] * dy_[i] * x_[i];
        }
        team_sum(sums);
        float r = reciprocal_rms(sums[0], eps);
        float a = r * sums[1] / D, m = r * sums[2] / D;
        float e = sums[3] - D * a * m;
        // mean(h xh), from the sums: h.x = (B dy).x - r (m A.x + a u.x)
        float c = r * (sums[4] - r * (m * sums[1] + a * sums[2])) / D + r * e / D;
#pragma unroll
        for (int i = 0; i < HELD; ++i) {
            float xh = x_[i] * r, u = dy_[i] * w_[i];
            float t = r * (a_[i] - a * xh);
            float h = b[i] * dy_[i] - r * (m * a_[i] + a * u);
            dw2[i] += dy_[i] * t;
            a_[i] = w_[i] * t + b[i] * xh;
            x_[i] = r * (h - xh * c);
        }
        store(dx2 + row * D, x_);
        store(ddy + row * D, a_);
    }
    leave(partial, dw2);
}

// The sum over blocks of what they left. A lane has a vector of columns; warps share the blocks, and add in their order.
extern "C" __global__ void __launch_bounds__(1024) sum_blocks(const float* partial, WEIGHT* dw, u64 blocks) {
    constexpr int WARPS = 32, VECTORS = D / VECTOR;
    __shared__ float room[WARPS][VECTOR][32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, i = blockIdx.x * 32 + lane;
    float total[VECTOR] = {};
    if (i < VECTORS)
#pragma unroll 4
        for (u64 block = warp; block < blocks; block += WARPS)
#pragma unroll
            for (int j = 0; j < VECTOR; ++j) total[j] += partial[block * D + j * VECTORS + i];
#pragma unroll
    for (int j = 0; j < VECTOR; ++j) room[warp][j][lane] = total[j];
    __syncthreads();
    if (warp != 0 || i >= VECTORS) return;
    Vector<WEIGHT> v;
#pragma unroll
    for (int j = 0; j < VECTOR; ++j) {
        for (int other = 1; other < WARPS; ++other) total[j] += room[other][j][lane];
        v.x[j] = from_float<WEIGHT>(total[j]);
    }
    store_whole(dw + i * VECTOR, v);
}
