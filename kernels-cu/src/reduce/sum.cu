// y[o, c, i] = sum over k in chunk c of x[o, k, i].
//
//   outer, k, inner   sizes of x        chunk, chunks   terms of a chunk; chunks of a sum
//   FROM, TO          types of x and y

// inner = 1: a warp for each chunk
extern "C" __global__ void __launch_bounds__(128) sum_rows(const FROM* x, TO* y, u64 outer, u64 k, u64 chunk, u64 chunks) {
    u64 at = u64(blockIdx.x) * 4 + threadIdx.x / 32;
    if (at >= outer * chunks) return;
    u64 first = at % chunks * chunk, end = first + chunk < k ? first + chunk : k;
    const FROM* row = x + at / chunks * k;
    double total = 0;
    for (u64 j = first + threadIdx.x % 32; j < end; j += 32) total += to_float(row[j]);
    total = warp_sum(total);
    if (threadIdx.x % 32 == 0) y[at] = from_float<TO>(float(total));
}

// a thread for each chunk
extern "C" __global__ void __launch_bounds__(128)
    sum_columns(const FROM* x, TO* y, u64 outer, u64 k, u64 inner, u64 chunk, u64 chunks) {
    u64 at = u64(blockIdx.x) * 128 + threadIdx.x;
    if (at >= outer * chunks * inner) return;
    u64 i = at % inner, rest = at / inner, first = rest % chunks * chunk, end = first + chunk < k ? first + chunk : k;
    const FROM* column = x + rest / chunks * k * inner + i;
    double total = 0;
    for (u64 j = first; j < end; ++j) total += to_float(column[j * inner]);
    y[at] = from_float<TO>(float(total));
}
