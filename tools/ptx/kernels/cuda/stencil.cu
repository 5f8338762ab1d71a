// Constant memory and a grid of three dimensions: a weighted sum of a cell and its six neighbours.

__constant__ float weights[7];
__constant__ int steps[7][3] = {{0, 0, 0}, {-1, 0, 0}, {1, 0, 0}, {0, -1, 0}, {0, 1, 0}, {0, 0, -1}, {0, 0, 1}};

/// x, out: f32 [depth, height, width]; cells outside count as zero.
extern "C" __global__ void stencil(const float* x, float* out, int width, int height, int depth) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, j = blockIdx.y * blockDim.y + threadIdx.y, k = blockIdx.z * blockDim.z + threadIdx.z;
    if (i >= width || j >= height || k >= depth) return;
    float sum = 0.0f;
    for (int n = 0; n < 7; n++) {
        int a = i + steps[n][0], b = j + steps[n][1], c = k + steps[n][2];
        if (a >= 0 && a < width && b >= 0 && b < height && c >= 0 && c < depth) sum += weights[n] * x[(c * height + b) * width + a];
    }
    out[(k * height + j) * width + i] = sum;
}
