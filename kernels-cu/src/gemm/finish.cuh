// What becomes of a sum: alpha times it, plus beta times what is there, written to C and its shadow. Gives the sum of the squares of what is written.
// As in tile/fours.cuh; `at` is the place of the first of the four in C.
__device__ __forceinline__ float finish(const float (&sum)[4], u64 at, bool whole, u32 count, void* c, bf16* shadow, bool is_float, float alpha,
                                        float beta) {
    float out[4], old[4], squares = 0;
    if (beta != 0) {
        if (is_float)
            load_four(old, (float*)c + at, whole, count);
        else
            load_four(old, (bf16*)c + at, whole, count);
    }
    for (int i = 0; i < 4; ++i) {
        out[i] = beta != 0 ? alpha * sum[i] + beta * old[i] : alpha * sum[i];
        if (i < count) squares += out[i] * out[i];
    }
    if (is_float)
        store_four((float*)c + at, out, whole, count);
    else
        store_four((bf16*)c + at, out, whole, count);
    if (shadow) store_four(shadow + at, out, whole, count);
    return squares;
}
