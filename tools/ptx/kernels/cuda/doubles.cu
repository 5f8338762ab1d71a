// Double precision: forces among bodies, and the functions of the mathematical library.

/// Accelerations of `count` bodies (x, y, z, mass) by one another; softened by eps.
extern "C" __global__ void bodies(const double4* body, double3* out, int count, double eps) {
    __shared__ double4 tile[64];
    int me = blockIdx.x * 64 + threadIdx.x;
    double4 mine = me < count ? body[me] : make_double4(0, 0, 0, 0);
    double ax = 0, ay = 0, az = 0;
    for (int start = 0; start < count; start += 64) {
        int other = start + threadIdx.x;
        tile[threadIdx.x] = other < count ? body[other] : make_double4(0, 0, 0, 0);
        __syncthreads();
        for (int j = 0; j < 64; j++) {
            double dx = tile[j].x - mine.x, dy = tile[j].y - mine.y, dz = tile[j].z - mine.z;
            double square = dx * dx + dy * dy + dz * dz + eps;
            double scale = tile[j].w / (square * sqrt(square));
            ax += dx * scale;
            ay += dy * scale;
            az += dz * scale;
        }
        __syncthreads();
    }
    if (me < count) out[me] = make_double3(ax, ay, az);
}

/// Row r of out [8, count]: exp, log, sin, cos, pow, 1 / cube root, error function, remainder of f64.
extern "C" __global__ void functions(const double* x, double* out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    double v = x[i];
    out[i] = exp(v);
    out[count + i] = log(fabs(v) + 0.25);
    out[2 * count + i] = sin(v);
    out[3 * count + i] = cos(v * 100.0);
    out[4 * count + i] = pow(fabs(v) + 0.1, 2.5);
    out[5 * count + i] = rcbrt(v * v + 1.0);
    out[6 * count + i] = erf(v);
    out[7 * count + i] = fmod(v, 0.3);
}
