// The kernels of the tests as CUDA C++.
extern "C" {

__device__ float scale = 2.0f;

// y[i] += a * x[i]
__global__ void axpy(float *y, const float *x, float a, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += a * x[i];
}

// x[i] *= scale
__global__ void rescale(float *x, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] *= scale;
}

// Every block stores its number to x[0]: a race.
__global__ void race(unsigned *x) { x[0] = blockIdx.x; }

// A kernel with dynamic shared memory.
__global__ void shared(unsigned *x) {
    extern __shared__ unsigned dynamic[];
    dynamic[threadIdx.x] = threadIdx.x;
    __syncthreads();
    x[threadIdx.x] = dynamic[threadIdx.x ^ 1];
}
}
