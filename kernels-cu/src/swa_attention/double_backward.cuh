// Cotangents of q, k, v and dO from cotangents a, b, c of dQ, dK, dV. With u = dP - D and e = G - gamma:
//
//   G = s (A K' + Q B')       Y = dO C'       gamma = rowsum(P G)       rho = rowsum(P (G u + Y))
//   E = P e                   dS = P u        Sb = P (u e + Y - rho)
//   dQ2 = s (Sb K + dS B)     dK2 = s (Sb' Q + dS' A)     dV2 = E' dO     ddO = E V + P C
//
//   q, do_, a, dq2, ddo [t, n, HEAD]   keys like k [t, m, HEAD] and [c, m, HEAD]   rows [n, pitch, 2]: {lse, D}
//   sums [n, pitch, 2]: {gamma, rho}   a, b, c may be null, which stands for zeros; so may results, which are then not made

constexpr int THREADS = WARPS * 32, ROWS = WARPS * 16 * COUNT;
constexpr u32 PART = TILE * Rows::PITCH, OWN = ROWS * Rows::PITCH, NUMBERS = TILE * 8;

using Own = Factor<ELEMENT, COLUMNS, COUNT, HELD>;

// P, dP, G and Y become P, dS, E and Sb.
__device__ __forceinline__ void combine(float p, float& dp, float& g, float& y, float scale, float d, float gamma, float rho) {
    const float u = dp - d, e = fmaf(scale, g, -gamma);
    dp = p * u;
    g = p * e;
    y = p * (fmaf(u, e, y) - rho);
}
