//! Graphs, made node by node and by capture.
#![allow(unsafe_code)]

mod common;

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use common::late_and_early as in_driver;
use common::raw::{
    allocate, check, download, end, floats, get, kernel, rescale, start, stream, synchronise,
};
use cudarc::driver::sys;

#[test]
fn a_graph_is_made_node_by_node() {
    if !in_driver("a_graph_is_made_node_by_node") {
        return;
    }
    let context = start();
    let scale = kernel("rescale");
    let (x, n) = (allocate(16).expect("memory"), 4u32);
    let mut arguments: [*mut c_void; 2] = [(&raw const x) as *mut _, (&raw const n) as *mut _];
    // SAFETY: nodes, graphs and places exist, and the arguments are those of the kernel.
    unsafe {
        let graph = get(|g| sys::cuGraphCreate(g, 0)).expect("a graph");
        let fill = sys::CUDA_MEMSET_NODE_PARAMS {
            dst: x,
            pitch: 0,
            value: 3.0f32.to_bits(),
            elementSize: 4,
            width: 4,
            height: 1,
        };
        let filled = get(|n| sys::cuGraphAddMemsetNode(n, graph, null(), 0, &fill, context));
        let filled = filled.expect("a node");
        let mut parameters: sys::CUDA_KERNEL_NODE_PARAMS = std::mem::zeroed();
        parameters.func = scale;
        (
            parameters.gridDimX,
            parameters.gridDimY,
            parameters.gridDimZ,
        ) = (1, 1, 1);
        (
            parameters.blockDimX,
            parameters.blockDimY,
            parameters.blockDimZ,
        ) = (32, 1, 1);
        parameters.kernelParams = arguments.as_mut_ptr();
        let scaled = get(|n| sys::cuGraphAddKernelNode_v2(n, graph, &filled, 1, &parameters));
        let scaled = scaled.expect("a node");
        let kind = get(|k| sys::cuGraphNodeGetType(scaled, k)).expect("a kind");
        assert_eq!(kind, sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_KERNEL);
        let mut count = 0;
        check(sys::cuGraphGetNodes(graph, null_mut(), &mut count)).expect("a count");
        assert_eq!(count, 2);

        let executable = get(|e| sys::cuGraphInstantiateWithFlags(e, graph, 0)).expect("a graph");
        check(sys::cuGraphLaunch(executable, null_mut())).expect("a launch");
        assert_eq!(download(x, 4).expect("a copy"), floats(&[6.0; 4]));

        // fewer numbers, with the parameters that the node has
        let mut known = get(|p| sys::cuGraphKernelNodeGetParams_v2(scaled, p)).expect("parameters");
        assert_eq!((known.func, known.blockDimX), (scale, 32));
        assert_eq!((*known.kernelParams).cast::<u64>().read_unaligned(), x);
        let two = 2u32;
        let mut fewer = [*known.kernelParams, (&raw const two) as *mut c_void];
        known.kernelParams = fewer.as_mut_ptr();
        check(sys::cuGraphExecKernelNodeSetParams_v2(
            executable, scaled, &known,
        ))
        .expect("set");
        check(sys::cuGraphLaunch(executable, null_mut())).expect("a launch");
        assert_eq!(
            download(x, 4).expect("a copy"),
            floats(&[6.0, 6.0, 3.0, 3.0])
        );
        check(sys::cuGraphExecDestroy(executable)).expect("destroyed");
        check(sys::cuGraphDestroy(graph)).expect("destroyed");
        check(sys::cuMemFree_v2(x)).expect("freed");
    }
    end(context);
}

#[test]
fn a_capture_spreads_over_streams_and_allocates() {
    if !in_driver("a_capture_spreads_over_streams_and_allocates") {
        return;
    }
    let context = start();
    let scale = kernel("rescale");
    let (first, second) = (stream(), stream());
    let out = allocate(16).expect("memory");
    let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
    // SAFETY: streams, events and places exist; the sizes are those of the memory.
    unsafe {
        let event = get(|e| sys::cuEventCreate(e, 2)).expect("an event");
        check(sys::cuStreamBeginCapture_v2(first, mode)).expect("a capture");
        let x = get(|x| sys::cuMemAllocAsync(x, 16, first)).expect("memory");
        check(sys::cuMemsetD32Async(x, 5.0f32.to_bits(), 4, first)).expect("a node");
        check(sys::cuEventRecord(event, first)).expect("a mark");
        check(sys::cuStreamWaitEvent(second, event, 0)).expect("a part");
        rescale(scale, second, x, 4).expect("a node");
        check(sys::cuEventRecord(event, second)).expect("a mark");
        check(sys::cuStreamWaitEvent(first, event, 0)).expect("a join");
        check(sys::cuMemcpyDtoDAsync_v2(out, x, 16, first)).expect("a node");
        check(sys::cuMemFreeAsync(x, first)).expect("a node");
        let state = get(|s| sys::cuStreamIsCapturing(second, s)).expect("a state");
        assert_eq!(
            state,
            sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE
        );
        let graph = get(|g| sys::cuStreamEndCapture(first, g)).expect("a graph");
        let executable = get(|e| sys::cuGraphInstantiateWithFlags(e, graph, 0)).expect("a graph");
        check(sys::cuGraphDestroy(graph)).expect("destroyed");
        for _ in 0..2 {
            check(sys::cuGraphLaunch(executable, first)).expect("a launch");
            synchronise(first).expect("done");
            assert_eq!(download(out, 4).expect("a copy"), floats(&[10.0; 4]));
        }
        check(sys::cuGraphExecDestroy(executable)).expect("destroyed");
        check(sys::cuMemFree_v2(out)).expect("freed");
    }
    end(context);
}
