// silu(g) = g sigma(g) with its first and second derivatives.
struct Silu {
    float s, s1, s2;
};

__device__ __forceinline__ Silu silu(float g) {
    float sigma = 1 / (1 + expf(-g)), rest = 1 - sigma;
    return {g * sigma, sigma * (1 + g * rest), sigma * rest * (2 + g * (rest - sigma))};
}
