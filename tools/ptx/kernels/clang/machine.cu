// A switch in a loop, whose lanes go many ways.

#include "words.h"

/// Runs a program of a small machine: a switch that becomes a table of branches.
extern "C" __global__ void machine(const unsigned char* program, const int* x, int* out, int length) {
    int i = thread(), value = x[i];
    for (int step = 0; step < length; step++) {
        switch (program[step * threads() + thread()]) {
            case 0: value += step; break;
            case 1: value = -value; break;
            case 2: value = value * 3 + 1; break;
            case 3: value ^= value >> 3; break;
            case 4: value = __builtin_popcount(value); break;
            case 5: value = value / 7; break;
            case 6: value = __builtin_bitreverse32(value); break;
            case 7: value = value << (step & 3); break;
            default: value -= 1000;
        }
    }
    out[i] = value;
}
