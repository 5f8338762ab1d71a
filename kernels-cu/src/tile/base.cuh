// Types and conversions. Only the compiler is needed: no header of CUDA's.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short u16;

// A bf16: the upper half of a float.
struct bf16 {
    u16 bits;
};

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float(u32(x.bits) << 16); }

template <typename T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
// to nearest, ties to even
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) {
    bf16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}

// Two bf16 in a register: `low` is the first in memory.
__device__ __forceinline__ u32 pack(float low, float high) {
    u32 y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}

__device__ __forceinline__ float unpack_low(u32 x) { return __uint_as_float(x << 16); }
__device__ __forceinline__ float unpack_high(u32 x) { return __uint_as_float(x & 0xffff0000u); }

__device__ __forceinline__ float infinity() { return __uint_as_float(0x7f800000u); }

// One store to global memory of 2, 4, 8 or 16 bytes. (Left alone, the compiler stores a structure element by element.)
template <typename V> __device__ __forceinline__ void store_whole(void* to, const V& value) {
    u64 p = __cvta_generic_to_global(to);
    if constexpr (sizeof(V) == 2) {
        asm volatile("st.global.b16 [%0], %1;" ::"l"(p), "h"(*(const u16*)&value) : "memory");
    } else {
        const u32* x = (const u32*)&value;
        if constexpr (sizeof(V) == 4) asm volatile("st.global.b32 [%0], %1;" ::"l"(p), "r"(x[0]) : "memory");
        if constexpr (sizeof(V) == 8) asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(p), "r"(x[0]), "r"(x[1]) : "memory");
        if constexpr (sizeof(V) == 16)
            asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]) : "memory");
    }
}

// One load from global memory of 2, 4, 8 or 16 bytes.
template <typename V> __device__ __forceinline__ V load_whole(const void* from) {
    u64 p = __cvta_generic_to_global(from);
    V value;
    if constexpr (sizeof(V) == 2) {
        asm volatile("ld.global.b16 %0, [%1];" : "=h"(*(u16*)&value) : "l"(p) : "memory");
    } else {
        u32* x = (u32*)&value;
        if constexpr (sizeof(V) == 4) asm volatile("ld.global.b32 %0, [%1];" : "=r"(x[0]) : "l"(p) : "memory");
        if constexpr (sizeof(V) == 8) asm volatile("ld.global.v2.b32 {%0, %1}, [%2];" : "=r"(x[0]), "=r"(x[1]) : "l"(p) : "memory");
        if constexpr (sizeof(V) == 16)
            asm volatile("ld.global.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "l"(p) : "memory");
    }
    return value;
}

// 2^x.
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
