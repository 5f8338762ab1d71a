// Whole numbers: division of 64 bits, bit tricks, products of bytes.

/// Row r of out [10, count], u64.
extern "C" __global__ void numbers(const unsigned long long* x, const unsigned long long* y, unsigned long long* out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    unsigned long long a = x[i], b = y[i];
    out[i] = a / b;
    out[count + i] = a % b;
    out[2 * count + i] = (long long)a / (long long)b;
    out[3 * count + i] = (long long)a % (long long)b;
    out[4 * count + i] = __umul64hi(a, b);
    out[5 * count + i] = __mul64hi(a, b);
    out[6 * count + i] = __clzll(a) << 16 | __popcll(b) << 8 | __ffsll(a);
    out[7 * count + i] = __brevll(a) ^ (unsigned)a / (unsigned)(b | 1) ^ (int)a % (int)(b | 1);
    out[8 * count + i] = (unsigned long long)__byte_perm(a, b, 0x3715) << 32 | __funnelshift_r(a, b, b);
    out[9 * count + i] = (unsigned)__dp4a((int)a, (int)b, 7) | (unsigned long long)__usad(a, b, 3) << 32;
}
