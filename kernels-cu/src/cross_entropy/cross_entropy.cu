// cross_entropy(z, y)_i = lse(z_i) - z_i[y_i] on whole logits, to second order. A block takes a row.
//
//   p = e^(z - lse)
//   (1) dz = dn (p - onehot(y))
//   cotangent A of dz, alpha = sum_j p_j A_j:
//   (2) dz2 = dn p (A - alpha)        ddn = alpha - A[y]
//
//   z, dz, A, dz2 [t, v] ELEMENT      nll, lse, dn, ddn [t] f32      ids [t]
//
// Threads take the columns of their number, in steps of the block; their sums are added in the order of lanes and warps.

constexpr int THREADS = 256;
constexpr int WARPS = THREADS / 32;

extern "C" __global__ void __launch_bounds__(THREADS) forward(const ELEMENT* z, const u32* ids, float* nll, float* lse, u32 v) {
    __shared__ float room[2][WARPS];
    u64 row = blockIdx.x;
    z += row * v;
    // the maximum so far, and the sum of exponentials less it: both go with one reading
    float most = -infinity(), sum = 0;
    for (u32 j = threadIdx.x; j < v; j += THREADS) {
        float x = to_float(z[j]);
        if (x > most) {
            sum *= expf(most - x);
            most = x;
        }
        sum += expf(x - most);
    }
    float all = block_max<WARPS>(most, room[0]);
    // a thread without columns has no maximum
    sum = block_sum<WARPS>(most == -infinity() ? 0 : sum * expf(most - all), room[1]);
    if (threadIdx.x == 0) {
        float log = all + logf(sum);
        lse[row] = log;
        nll[row] = log - to_float(z[ids[row]]);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    backward(const ELEMENT* z, const u32* ids, const float* dn, const float* lse, ELEMENT* dz, u32 v) {
    u64 row = blockIdx.x;
    float n = dn[row], log = lse[row];
    u32 target = ids[row];
    for (u32 j = threadIdx.x; j < v; j += THREADS) {
        float p = n * expf(to_float(z[row * v + j]) - log);
        dz[row * v + j] = from_float<ELEMENT>(j == target ? p - n : p);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) double_backward(const ELEMENT* z, const u32* ids, const float* dn, const float* lse,
                                                                      const ELEMENT* A, ELEMENT* dz2, float* ddn, u32 v) {
    __shared__ float room[WARPS];
    u64 row = blockIdx.x;
    float n = dn[row], log = lse[row];
    z += row * v;
    A += row * v;
    float alpha = 0;
    for (u32 j = threadIdx.x; j < v; j += THREADS) alpha += expf(to_float(z[j]) - log) * to_float(A[j]);
    alpha = block_sum<WARPS>(alpha, room);
    for (u32 j = threadIdx.x; j < v; j += THREADS) {
        float p = expf(to_float(z[j]) - log);
        dz2[row * v + j] = from_float<ELEMENT>(n * p * (to_float(A[j]) - alpha));
    }
    if (threadIdx.x == 0) ddn[row] = alpha - to_float(A[ids[row]]);
}
