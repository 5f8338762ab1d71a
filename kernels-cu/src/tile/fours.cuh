// Four elements side by side in global memory, as floats.
//
// `whole`: they begin at a multiple of four elements' size, and all are there. Else the first `count` are read or written one by one.

struct alignas(16) FourFloats {
    float x[4];
};
struct alignas(8) FourHalves {
    u32 x[2];
};

__device__ __forceinline__ void load_four(float (&x)[4], const float* from, bool whole, u32 count) {
    if (whole) {
        FourFloats y = *(const FourFloats*)from;
        for (int i = 0; i < 4; ++i) x[i] = y.x[i];
    } else {
        for (int i = 0; i < 4; ++i) x[i] = i < count ? from[i] : 0;
    }
}

__device__ __forceinline__ void load_four(float (&x)[4], const bf16* from, bool whole, u32 count) {
    if (whole) {
        FourHalves y = *(const FourHalves*)from;
        for (int i = 0; i < 2; ++i) x[2 * i] = unpack_low(y.x[i]), x[2 * i + 1] = unpack_high(y.x[i]);
    } else {
        for (int i = 0; i < 4; ++i) x[i] = i < count ? to_float(from[i]) : 0;
    }
}

__device__ __forceinline__ void store_four(float* to, const float (&x)[4], bool whole, u32 count) {
    if (whole) {
        *(FourFloats*)to = {x[0], x[1], x[2], x[3]};
    } else {
        for (int i = 0; i < 4; ++i)
            if (i < count) to[i] = x[i];
    }
}

__device__ __forceinline__ void store_four(bf16* to, const float (&x)[4], bool whole, u32 count) {
    if (whole) {
        *(FourHalves*)to = {pack(x[0], x[1]), pack(x[2], x[3])};
    } else {
        for (int i = 0; i < 4; ++i)
            if (i < count) to[i] = from_float<bf16>(x[i]);
    }
}
