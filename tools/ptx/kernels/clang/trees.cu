// Divergent lanes and calls, compiled by clang: look-ups in search trees, and a bitonic sort in shared memory.

#include "words.h"

struct Node {
    int key, value;
    int child[2];
};

/// values[i] = the value of keys[i] in the tree, or -1 - the number of steps taken.
extern "C" __global__ void look_up(const Node* tree, int root, const int* keys, int* values, int count) {
    for (int i = block() * threads() + thread(); i < count; i += blocks() * threads()) {
        int at = root, steps = 0, found = 0, value = 0;
        while (at >= 0) {
            Node node = tree[at];
            steps++;
            if (node.key == keys[i]) {
                found = 1;
                value = node.value;
                break;
            }
            at = node.child[keys[i] > node.key];
        }
        values[i] = found ? value : -1 - steps;
    }
}

__device__ __noinline void order(unsigned long* values, int a, int b, bool up) {
    unsigned long x = values[a], y = values[b];
    if ((x > y) == up) {
        values[a] = y;
        values[b] = x;
    }
}

/// Sorts each piece of 128 u64; 64 threads.
extern "C" __global__ void __launch_bounds__(64) bitonic(unsigned long* x) {
    __shared__ unsigned long values[128];
    unsigned long* mine = x + block() * 128;
    values[thread()] = mine[thread()];
    values[thread() + 64] = mine[thread() + 64];
    for (int size = 2; size <= 128; size *= 2)
        for (int step = size / 2; step > 0; step /= 2) {
            barrier();
            int low = thread() / step * step * 2 + thread() % step;
            order(values, low, low + step, (low & size) == 0);
        }
    barrier();
    mine[thread()] = values[thread()];
    mine[thread() + 64] = values[thread() + 64];
}
