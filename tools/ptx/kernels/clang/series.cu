// Numbers in all widths, compiled by clang: 128-bit products, floats of 16 bits, vectors.

#include "words.h"

/// out[i] = x[i] * y[i] mod p, by a product of 128 bits.
extern "C" __global__ void modular(const unsigned long* x, const unsigned long* y, unsigned long* out, unsigned long p) {
    int i = block() * threads() + thread();
    unsigned __int128 product = (unsigned __int128)x[i] * y[i];
    unsigned long high = product >> 64, low = product;
    // bit after bit from the left
    unsigned long rest = high % p;
    for (int bit = 63; bit >= 0; bit--) {
        unsigned long top = rest >> 63;
        rest = rest << 1 | (low >> bit & 1);
        if (top || rest >= p) rest -= p;
    }
    out[i] = rest;
}

typedef float Four __attribute__((ext_vector_type(4)));

/// out = 1 / (1 + x^2) of vectors of four f32, and its f16 in `narrow`.
extern "C" __global__ void lorentz(const Four* x, Four* out, _Float16* narrow, int count) {
    int i = block() * threads() + thread();
    if (i >= count) return;
    Four v = 1.0f / (1.0f + x[i] * x[i]);
    out[i] = v;
    for (int j = 0; j < 4; j++) narrow[4 * i + j] = (_Float16)v[j];
}

/// Steps until n reaches 1 by halving or 3 n + 1, in signed chars, shorts and longs: narrow arithmetic wraps.
extern "C" __global__ void narrow(const short* x, signed char* chars, short* shorts, long* longs) {
    int i = block() * threads() + thread();
    short s = x[i];
    chars[i] = (signed char)(s * 3) / 5;
    shorts[i] = (short)(s * s) >> 3;
    long n = s < 1 ? 1 : s, steps = 0;
    while (n != 1) {
        n = n % 2 ? 3 * n + 1 : n / 2;
        steps++;
    }
    longs[i] = steps;
}
