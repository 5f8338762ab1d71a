// The products of the SwiGLU MLP that have elementwise functions behind them, each function done where the sums are. Letters as in README.md.
//
//   t, d, ff   rows and widths        GATE_UP   a tile has half its columns of the gate's product and half of the up's
//   flags      as in gemm.cu; whole fours are those of [t, ff]
//
// Grid: tiles of rows, tiles of ff (GATE_UP: half as wide). Results that are null are not written.

// Calls f(place in [t, ff], whole, count, four) for each four sums that lie in [t, ff].
template <int HALVES, typename F> __device__ __forceinline__ void for_places(const Sums& sums, u32 t, u32 ff, u32 flags, F f) {
    u32 row = blockIdx.x * TILE_M, column = blockIdx.y * (TILE_N / HALVES);
    for_fours<HALVES>(sums, [&](u32 r, u32 at, float (&four)[HALVES][4]) {
        r += row, at += column;
        if (r < t && at < ff) f(u64(r) * ff + at, flags & 2, ff - at, four);
    });
}

__device__ __forceinline__ void store_if(ELEMENT* to, u64 at, const float (&x)[4], bool whole, u32 count) {
    if (to) store_four(to + at, x, whole, count);
}

__device__ __forceinline__ void load_or_0(float (&x)[4], const ELEMENT* from, u64 at, bool whole, u32 count) {
    if (from)
        load_four(x, from + at, whole, count);
    else
        x[0] = x[1] = x[2] = x[3] = 0;
}

#if GATE_UP

// g = x G', u = x U', h = silu(g) u
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
    forward(const ELEMENT* x, const ELEMENT* gate, const ELEMENT* up, ELEMENT* g_, ELEMENT* u_, ELEMENT* h_, u32 t, u32 d, u32 ff, u32 flags) {
    extern __shared__ char memory[];
    Sums sums;
    product<true, true, 2>(sums, {x, gate, up}, {0, 0, 0}, t, ff, d, blockIdx.x * TILE_M, blockIdx.y * (TILE_N / 2), 0, (d + TILE_K - 1) / TILE_K,
                           shared_address(memory), flags & 1);
    for_places<2>(sums, t, ff, flags, [&](u64 at, bool whole, u32 count, float (&sums)[2][4]) {
        float(&g)[4] = sums[0], (&u)[4] = sums[1], h[4];
        for (int i = 0; i < 4; ++i) h[i] = silu(g[i]).s * u[i];
        store_if(g_, at, g, whole, count);
        store_if(u_, at, u, whole, count);
        store_four(h_ + at, h, whole, count);
    });
}

// ddg = a1 G1' + a2 G2' and ddu = a1 U1' + a2 U2', where (a1, G1, U1) is (ddx, G, U) and the second (x, ddG, ddU), or the first alone; all that
// follows from them
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
    bwd_bwd(const ELEMENT* a1, const ELEMENT* gate1, const ELEMENT* up1, const ELEMENT* a2, const ELEMENT* gate2, const ELEMENT* up2, const ELEMENT* g_,
            const ELEMENT* u_, const ELEMENT* dh_, const ELEMENT* h2_, ELEMENT* dg2_, ELEMENT* du2_, ELEMENT* dg_, ELEMENT* du_, ELEMENT* ddh_,
            ELEMENT* h_, u32 t, u32 d, u32 ff, u32 flags) {
    extern __shared__ char memory[];
    u32 slices = (d + TILE_K - 1) / TILE_K * (a1 ? a2 ? 2 : 1 : 0);
    Sums sums;
    product<true, true, 2>(sums, {a1, gate1, up1}, {a2, gate2, up2}, t, ff, d, blockIdx.x * TILE_M, blockIdx.y * (TILE_N / 2), 0, slices,
                           shared_address(memory), flags & 1);
    for_places<2>(sums, t, ff, flags, [&](u64 at, bool whole, u32 count, float (&sums)[2][4]) {
        float(&ddg)[4] = sums[0], (&ddu)[4] = sums[1], g[4], u[4], dh[4], h2[4];
        load_four(g, g_ + at, whole, count);
        load_four(u, u_ + at, whole, count);
        load_four(dh, dh_ + at, whole, count);
        load_or_0(h2, h2_, at, whole, count);
        float dg2[4], du2[4], dg[4], du[4], ddh[4], h[4];
        for (int i = 0; i < 4; ++i) {
            Silu silu_g = silu(g[i]);
            float s = silu_g.s, s1 = silu_g.s1, s2 = silu_g.s2, ddg_dh = ddg[i] * dh[i];
            dg2[i] = ddg_dh * u[i] * s2 + (ddu[i] * dh[i] + h2[i] * u[i]) * s1;
            du2[i] = ddg_dh * s1 + h2[i] * s;
            dg[i] = dh[i] * u[i] * s1;
            du[i] = dh[i] * s;
            ddh[i] = ddg[i] * u[i] * s1 + ddu[i] * s;
            h[i] = s * u[i];
        }
        store_if(dg2_, at, dg2, whole, count);
        store_if(du2_, at, du2, whole, count);
        store_if(dg_, at, dg, whole, count);
        store_if(du_, at, du, whole, count);
        store_if(ddh_, at, ddh, whole, count);
        store_if(h_, at, h, whole, count);
    });
}

#else

// dh = dy D, dg = dh u s' + eg, du = dh s + eu, h = s u
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
    bwd(const ELEMENT* dy, const ELEMENT* down, const ELEMENT* g_, const ELEMENT* u_, const ELEMENT* eg_, const ELEMENT* eu_, ELEMENT* dh_, ELEMENT* dg_,
        ELEMENT* du_, ELEMENT* h_, u32 t, u32 d, u32 ff, u32 flags) {
    extern __shared__ char memory[];
    Sums sums;
    product<true, false, 1>(sums, {dy, down, 0}, {0, 0, 0}, t, ff, d, blockIdx.x * TILE_M, blockIdx.y * TILE_N, 0, (d + TILE_K - 1) / TILE_K,
                            shared_address(memory), flags & 1);
    for_places<1>(sums, t, ff, flags, [&](u64 at, bool whole, u32 count, float (&sums)[1][4]) {
        float(&dh)[4] = sums[0], g[4], u[4], eg[4], eu[4], dg[4], du[4], h[4];
        load_four(g, g_ + at, whole, count);
        load_four(u, u_ + at, whole, count);
        load_or_0(eg, eg_, at, whole, count);
        load_or_0(eu, eu_, at, whole, count);
        for (int i = 0; i < 4; ++i) {
            Silu silu_g = silu(g[i]);
            dg[i] = dh[i] * u[i] * silu_g.s1 + eg[i];
            du[i] = dh[i] * silu_g.s + eu[i];
            h[i] = silu_g.s * u[i];
        }
        store_if(dh_, at, dh, whole, count);
        store_if(dg_, at, dg, whole, count);
        store_if(du_, at, du, whole, count);
        store_if(h_, at, h, whole, count);
    });
}

#endif
