//! One piece of work for a device, as plain data: asked for at once, or a node of a graph.

use std::ffi::c_void;
use std::ptr;

use cudarc::driver::{result, sys};

use crate::error::Result;
use crate::gpu::driver;

/// What a stream does next. Only a [`Gpu`](crate::Gpu) makes one: it has checked that the addresses are memory of its own, that as
/// many bytes lie there, and that a kernel gets the arguments it has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Work {
    Kernel {
        function: sys::CUfunction,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        /// Each argument in the low bytes of a word, which is where little-endian machines have it.
        words: Vec<u64>,
    },
    Copy {
        from: u64,
        to: u64,
        bytes: usize,
    },
    Fill {
        to: u64,
        byte: u8,
        bytes: usize,
    },
}

// SAFETY: handles of the driver may be used by any thread
unsafe impl Send for Work {}

/// What a node of a graph cannot change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// The kernel at this handle.
    Kernel(usize),
    Copy,
    Fill,
}

impl Work {
    pub fn kind(&self) -> Kind {
        match self {
            Work::Kernel { function, .. } => Kind::Kernel(function.addr()),
            Work::Copy { .. } => Kind::Copy,
            Work::Fill { .. } => Kind::Fill,
        }
    }

    /// Asks a stream for it.
    pub fn issue(&self, stream: sys::CUstream) -> Result<()> {
        match self {
            Work::Kernel {
                function,
                grid: [x, y, z],
                block: [a, b, c],
                shared,
                words,
            } => {
                let mut pointers = pointers(words);
                // SAFETY: see `Work`; the driver reads the arguments before it returns
                let run = unsafe {
                    let (grid, block) = ((*x, *y, *z), (*a, *b, *c));
                    result::launch_kernel(*function, grid, block, *shared, stream, &mut pointers)
                };
                driver("cuLaunchKernel", run)
            }
            Work::Copy { from, to, bytes } => {
                // SAFETY: see `Work`
                let copy = unsafe { result::memcpy_dtod_async(*to, *from, *bytes, stream) };
                driver("cuMemcpyDtoDAsync", copy)
            }
            Work::Fill { to, byte, bytes } => {
                // SAFETY: see `Work`
                let fill = unsafe { result::memset_d8_async(*to, *byte, *bytes, stream) };
                driver("cuMemsetD8Async", fill)
            }
        }
    }

    /// A node of `graph` that does it after `before`.
    pub fn add(
        &self,
        graph: sys::CUgraph,
        before: Option<sys::CUgraphNode>,
        context: sys::CUcontext,
    ) -> Result<sys::CUgraphNode> {
        let mut node = ptr::null_mut();
        let needs = before.as_slice();
        let (first, count) = (needs.as_ptr(), needs.len());
        // SAFETY: see `Work`; the node before is one of this graph, and the driver copies all it is given
        let (call, added) = unsafe {
            match self.parameters(context) {
                Parameters::Kernel(p, _pointers) => (
                    "cuGraphAddKernelNode",
                    sys::cuGraphAddKernelNode_v2(&mut node, graph, first, count, &p),
                ),
                Parameters::Copy(p) => (
                    "cuGraphAddMemcpyNode",
                    sys::cuGraphAddMemcpyNode(&mut node, graph, first, count, &p, context),
                ),
                Parameters::Fill(p) => (
                    "cuGraphAddMemsetNode",
                    sys::cuGraphAddMemsetNode(&mut node, graph, first, count, &p, context),
                ),
            }
        };
        driver(call, added.result())?;
        Ok(node)
    }

    /// Makes a node that did work of the same kind do this in later launches.
    pub fn set(
        &self,
        executable: sys::CUgraphExec,
        node: sys::CUgraphNode,
        context: sys::CUcontext,
    ) -> Result<()> {
        // SAFETY: see `Work`; the node is one of the graph that the executable was made of, and the driver copies all it is given
        let (call, set) = unsafe {
            match self.parameters(context) {
                Parameters::Kernel(p, _pointers) => (
                    "cuGraphExecKernelNodeSetParams",
                    sys::cuGraphExecKernelNodeSetParams_v2(executable, node, &p),
                ),
                Parameters::Copy(p) => (
                    "cuGraphExecMemcpyNodeSetParams",
                    sys::cuGraphExecMemcpyNodeSetParams(executable, node, &p, context),
                ),
                Parameters::Fill(p) => (
                    "cuGraphExecMemsetNodeSetParams",
                    sys::cuGraphExecMemsetNodeSetParams(executable, node, &p, context),
                ),
            }
        };
        driver(call, set.result())
    }

    fn parameters(&self, context: sys::CUcontext) -> Parameters {
        match self {
            Work::Kernel {
                function,
                grid,
                block,
                shared,
                words,
            } => {
                let mut pointers = pointers(words);
                let parameters = sys::CUDA_KERNEL_NODE_PARAMS {
                    func: *function,
                    gridDimX: grid[0],
                    gridDimY: grid[1],
                    gridDimZ: grid[2],
                    blockDimX: block[0],
                    blockDimY: block[1],
                    blockDimZ: block[2],
                    sharedMemBytes: *shared,
                    kernelParams: pointers.as_mut_ptr(),
                    extra: ptr::null_mut(),
                    kern: ptr::null_mut(),
                    ctx: context,
                };
                Parameters::Kernel(parameters, pointers)
            }
            Work::Copy { from, to, bytes } => Parameters::Copy(sys::CUDA_MEMCPY3D {
                srcXInBytes: 0,
                srcY: 0,
                srcZ: 0,
                srcLOD: 0,
                srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
                srcHost: ptr::null(),
                srcDevice: *from,
                srcArray: ptr::null_mut(),
                reserved0: ptr::null_mut(),
                srcPitch: *bytes,
                srcHeight: 1,
                dstXInBytes: 0,
                dstY: 0,
                dstZ: 0,
                dstLOD: 0,
                dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
                dstHost: ptr::null_mut(),
                dstDevice: *to,
                dstArray: ptr::null_mut(),
                reserved1: ptr::null_mut(),
                dstPitch: *bytes,
                dstHeight: 1,
                WidthInBytes: *bytes,
                Height: 1,
                Depth: 1,
            }),
            Work::Fill { to, byte, bytes } => Parameters::Fill(sys::CUDA_MEMSET_NODE_PARAMS {
                dst: *to,
                pitch: 0,
                value: u32::from(*byte),
                elementSize: 1,
                width: *bytes,
                height: 1,
            }),
        }
    }
}

/// Work as the driver's graphs take it. That of a kernel points into the list beside it, and into the work's words.
enum Parameters {
    Kernel(sys::CUDA_KERNEL_NODE_PARAMS, Vec<*mut c_void>),
    Copy(sys::CUDA_MEMCPY3D),
    Fill(sys::CUDA_MEMSET_NODE_PARAMS),
}

/// Where each argument is. The driver does not write there.
fn pointers(words: &[u64]) -> Vec<*mut c_void> {
    let pointer = |word| ptr::from_ref::<u64>(word).cast_mut().cast();
    words.iter().map(pointer).collect()
}
