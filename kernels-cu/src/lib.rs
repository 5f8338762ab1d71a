//! kernels-cu
