// Functions that are called: by name, with structures, with arrays, through a table; text is printed.

struct Complex {
    float re, im;
};

__device__ __noinline__ Complex times(Complex a, Complex b) {
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

__device__ __noinline__ float horner(const float* coefficients, int count, float x) {
    float sum = 0.0f;
    for (int i = count - 1; i >= 0; i--) sum = sum * x + coefficients[i];
    return sum;
}

/// The polynomial with coefficients 1, 2, ..., n at x, and x + i to the power n; both for n = 1 + thread % 7.
extern "C" __global__ void polynomials(const float* x, float* out, float* real, float* imaginary) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, n = 1 + i % 7;
    float coefficients[8];
    for (int c = 0; c < n; c++) coefficients[c] = c + 1;
    out[i] = horner(coefficients, n, x[i]);
    Complex power = {1.0f, 0.0f}, base = {x[i], 1.0f};
    for (int c = 0; c < n; c++) power = times(power, base);
    real[i] = power.re;
    imaginary[i] = power.im;
}

/// Smallest of a window of five around each value, by insertion into an array of the thread.
extern "C" __global__ void medians(const int* x, int* out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    int sorted[5];
    for (int n = 0; n < 5; n++) {
        int value = x[min(max(i + n - 2, 0), count - 1)], at = n;
        while (at > 0 && sorted[at - 1] > value) {
            sorted[at] = sorted[at - 1];
            at--;
        }
        sorted[at] = value;
    }
    out[i] = sorted[2];
}

typedef int (*Operation)(int, int);
__device__ __noinline__ int add(int a, int b) { return a + b; }
__device__ __noinline__ int subtract(int a, int b) { return a - b; }
__device__ __noinline__ int multiply(int a, int b) { return a * b; }
__device__ __noinline__ int difference(int a, int b) { return max(subtract(a, b), subtract(b, a)); }
__device__ Operation operations[4] = {add, subtract, multiply, difference};

/// out[i] = a[i] (operation which[i]) b[i]
extern "C" __global__ void table(const int* which, const int* a, const int* b, int* out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = operations[which[i]](a[i], b[i]);
}

/// Says what every tenth thread holds.
extern "C" __global__ void say(const float* x) {
    if (threadIdx.x % 10 == 0) printf("block %d, thread %2d: %.3f %s %llx%%\n", blockIdx.x, threadIdx.x, x[threadIdx.x], "units", 1ull << 40);
}
