// Cotangents of q, k, v and dO from cotangents a, b, c of dQ, dK, dV. With u = dP - D and e = G - gamma:
//
//   G = s (A K' + Q B')       Y = dO C'       gamma = rowsum(P G)       rho = rowsum(P (G u + Y))
//   E = P e                   dS = P u        Sb = P (u e + Y - rho)
//   dQ2 = s (Sb K + dS B)     dK2 = s (Sb' Q + dS' A)     dV2 = E' dO     ddO = E V + P C
//
//   q, do_, a, dq2, ddo [t, n, HEAD]   keys like k [t, m, HEAD] and [c, m, HEAD]   rows [n, pitch, 2]: {lse, D}
//   sums [n, pitch, 2]: {gamma, rho}   a, b, c may be null, which stands for zeros; so may results, which are then not made

constexpr int THREADS = WARPS * 32, ROWS = WARPS * 16 * COUNT;
// Results of wide heads are shared among PARTS blocks, for want of registers; each makes all scores.
constexpr int WIDTH = COLUMNS / PARTS;
constexpr u32 PART = TILE * Rows::PITCH, OWN = ROWS * Rows::PITCH, NUMBERS = TILE * 8;

using Scores = float[COUNT][STEP / 8][4];
using Own = Factor<ELEMENT, COLUMNS, COUNT, HELD>;

// P, dP, G and Y become P, dS, E and Sb.
__device__ __forceinline__ void combine(float p, float& dp, float& g, float& y, float scale, float d, float gamma, float rho) {
    const float u = dp - d, e = fmaf(scale, g, -gamma);
    dp = p * u;
    g = p * e;
    y = p * (fmaf(u, e, y) - rho);
}

using Result = float[COUNT][WIDTH / 8][4];

// y += x z for STEP rows z of a tile, from `row` on; of z the columns from `column` on.
__device__ __forceinline__ void add(Result& y, const Scores& x, u32 tile, int row, int column) {
    add_sums<ELEMENT, COLUMNS, COUNT, STEP, WIDTH>(y, x, tile, row, column);
}

__device__ __forceinline__ void store(ELEMENT* to, u32 heads, const Result& y, int column, float scale, int count) {
    store_rows<ELEMENT, WIDTH, COUNT>(to + column, heads * HEAD, y, scale, count, HEAD - column);
}
