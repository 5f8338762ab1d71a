//! The functions that programs call, by the names of cuda.h and with its arguments. They read arguments, ask the driver
//! and write results; what they mean is said in NVIDIA's documentation of the CUDA driver API.
#![allow(unsafe_code, non_snake_case)]

mod capture;
mod context;
mod copy;
mod device;
mod event;
mod fill;
mod graph;
mod host;
mod init;
mod kernel;
mod launch;
mod library;
mod link;
mod memory;
mod module;
mod node;
mod occupancy;
mod own;
mod pointer;
mod pool;
mod proc_address;
mod stream;
mod tensor_map;
mod unserved;

#[cfg(test)]
mod tests {
    use cudarc::driver::sys;

    use super::{copy, device, fill, graph, launch, node};

    /// Programs and bindings agree on sizes; where fields lie is tested by programs that use them.
    #[test]
    fn structures_are_as_large_as_those_of_cuda() {
        let pairs = [
            (size_of::<copy::Copy2D>(), size_of::<sys::CUDA_MEMCPY2D>()),
            (size_of::<copy::Copy3D>(), size_of::<sys::CUDA_MEMCPY3D>()),
            (size_of::<device::Properties>(), size_of::<sys::CUdevprop>()),
            (
                size_of::<fill::FillParameters>(),
                size_of::<sys::CUDA_MEMSET_NODE_PARAMS>(),
            ),
            (
                size_of::<graph::Parameters>(),
                size_of::<sys::CUDA_GRAPH_INSTANTIATE_PARAMS>(),
            ),
            (
                size_of::<graph::Updated>(),
                size_of::<sys::CUgraphExecUpdateResultInfo>(),
            ),
            (
                size_of::<launch::Config>(),
                size_of::<sys::CUlaunchConfig>(),
            ),
            (
                size_of::<launch::Attribute>(),
                size_of::<sys::CUlaunchAttribute>(),
            ),
            (
                size_of::<node::KernelParameters>(),
                size_of::<sys::CUDA_KERNEL_NODE_PARAMS>(),
            ),
            (
                size_of::<node::HostParameters>(),
                size_of::<sys::CUDA_HOST_NODE_PARAMS>(),
            ),
        ];
        for (i, (ours, theirs)) in pairs.into_iter().enumerate() {
            assert_eq!(ours, theirs, "structure {i}");
        }
    }
}
