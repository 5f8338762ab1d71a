//! What the driver does for programs that are right: streams, events, launches, libraries, contexts.
#![allow(unsafe_code)]

mod common;

use std::ffi::{CStr, c_void};
use std::ptr::{null_mut, without_provenance_mut};

use common::late_and_early as in_driver;
use common::raw::{
    allocate, check, download, end, floats, function, get, kernel, launch, load, rescale, start,
    stream, synchronise, upload,
};
use cudarc::driver::sys::{self, CUresult};

#[test]
fn streams_run_functions_of_the_program_in_order() {
    if !in_driver("streams_run_functions_of_the_program_in_order") {
        return;
    }
    unsafe extern "C" fn plain(data: *mut c_void) {
        // SAFETY: the place that was given with the function.
        unsafe { (*data.cast::<Vec<i32>>()).push(1) };
    }
    unsafe extern "C" fn callback(_: sys::CUstream, status: CUresult, data: *mut c_void) {
        // SAFETY: the place that was given with the function.
        unsafe { (*data.cast::<Vec<i32>>()).push(2 + status as i32) };
    }
    let context = start();
    let mut seen: Vec<i32> = vec![];
    let place: *mut c_void = (&raw mut seen).cast();
    // SAFETY: the place lives until the streams have run the functions; streams and events exist.
    unsafe {
        let (first, second) = (stream(), stream());
        let event = get(|e| sys::cuEventCreate(e, 2)).expect("an event");
        check(sys::cuLaunchHostFunc(first, Some(plain), place)).expect("work");
        check(sys::cuEventRecord(event, first)).expect("work");
        check(sys::cuStreamWaitEvent(second, event, 0)).expect("work");
        check(sys::cuStreamAddCallback(second, Some(callback), place, 0)).expect("work");
        synchronise(second).expect("done");
        check(sys::cuEventQuery(event)).expect("reached");
        assert_eq!(seen, [1, 2]);
        let (mut least, mut greatest) = (1, 1);
        check(sys::cuCtxGetStreamPriorityRange(&mut least, &mut greatest)).expect("a range");
        let high = get(|s| sys::cuStreamCreateWithPriority(s, 0, -9)).expect("a stream");
        let priority = get(|p| sys::cuStreamGetPriority(high, p)).expect("a priority");
        assert_eq!((least, greatest, priority), (0, -5, -5));
    }
    end(context);
}

#[test]
fn launches_of_every_form() {
    if !in_driver("launches_of_every_form") {
        return;
    }
    let context = start();
    let scale = kernel("rescale");
    let x = upload(&floats(&[1.0; 4]));
    let n = 4u32;
    // SAFETY: the arguments are those of the kernel, in the forms that the calls take them in.
    unsafe {
        // a buffer: the second argument lies behind the first
        let mut buffer = [0u8; 12];
        buffer[..8].copy_from_slice(&x.to_le_bytes());
        buffer[8..].copy_from_slice(&n.to_le_bytes());
        let mut size = buffer.len();
        let mut extra: [*mut c_void; 5] = [
            without_provenance_mut(1),
            buffer.as_mut_ptr().cast(),
            without_provenance_mut(2),
            (&raw mut size).cast(),
            null_mut(),
        ];
        let none = null_mut();
        let code = sys::cuLaunchKernel(
            scale,
            1,
            1,
            1,
            32,
            1,
            1,
            0,
            none,
            null_mut(),
            extra.as_mut_ptr(),
        );
        check(code).expect("a launch");
        let mut arguments: [*mut c_void; 2] = [(&raw const x) as *mut _, (&raw const n) as *mut _];
        let pointers = arguments.as_mut_ptr();
        let code = sys::cuLaunchCooperativeKernel(scale, 1, 1, 1, 32, 1, 1, 0, none, pointers);
        check(code).expect("a launch");
        let mut attribute: sys::CUlaunchAttribute = std::mem::zeroed();
        attribute.id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
        (attribute.value.clusterDim.x, attribute.value.clusterDim.y) = (1, 1);
        attribute.value.clusterDim.z = 1;
        let config = sys::CUlaunchConfig {
            gridDimX: 1,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: 32,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            hStream: null_mut(),
            attrs: &mut attribute,
            numAttrs: 1,
        };
        check(sys::cuLaunchKernelEx(&config, scale, pointers, null_mut())).expect("a launch");
        assert_eq!(download(x, 4).expect("a copy"), floats(&[8.0; 4]));
        check(sys::cuMemFree_v2(x)).expect("freed");
    }
    end(context);
}

#[test]
fn kernels_and_libraries_tell_what_they_are() {
    if !in_driver("kernels_and_libraries_tell_what_they_are") {
        return;
    }
    let context = start();
    let image = std::ffi::CString::new(include_str!("programs/kernels.ptx")).expect("a text");
    // SAFETY: an image and names that end with a zero, and places for the answers.
    unsafe {
        let library = get(|l| {
            let (none, nothing) = (null_mut(), null_mut());
            sys::cuLibraryLoadData(
                l,
                image.as_ptr().cast(),
                none,
                nothing,
                0,
                null_mut(),
                null_mut(),
                0,
            )
        })
        .expect("a library");
        let count = get(|c| sys::cuLibraryGetKernelCount(c, library)).expect("a count");
        assert_eq!(count, 4);
        let kernel = get(|k| sys::cuLibraryGetKernel(k, library, c"rescale".as_ptr())).expect("it");
        let scale = get(|f| sys::cuKernelGetFunction(f, kernel)).expect("a kernel");
        let name = get(|n| sys::cuFuncGetName(n, scale)).expect("a name");
        assert_eq!(CStr::from_ptr(name), c"rescale");
        let (mut offset, mut bytes) = (0, 0);
        check(sys::cuFuncGetParamInfo(scale, 1, &mut offset, &mut bytes)).expect("a parameter");
        assert_eq!((offset, bytes), (8, 4));
        let threads = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK;
        let most = get(|n| sys::cuFuncGetAttribute(n, threads, scale)).expect("a number");
        assert_eq!(most, 1024);
        let blocks =
            get(|b| sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(b, scale, 256, 48 << 10));
        assert_eq!(blocks, Ok(4));
        let (mut grid, mut block) = (0, 0);
        let code = sys::cuOccupancyMaxPotentialBlockSize(&mut grid, &mut block, scale, None, 0, 0);
        check(code).expect("a size");
        assert_eq!((grid, block), (264, 1024));

        // a variable, which is the library's
        let (mut address, mut size) = (0, 0);
        let code = sys::cuLibraryGetGlobal(&mut address, &mut size, library, c"scale".as_ptr());
        check(code).expect("a variable");
        assert_eq!((size, download(address, 1)), (4, Ok(floats(&[2.0]))));
        let ten = 10.0f32.to_bits();
        check(sys::cuMemsetD32_v2(address, ten, 1)).expect("a fill");
        let x = upload(&floats(&[1.0]));
        rescale(scale, null_mut(), x, 1).expect("a launch");
        assert_eq!(download(x, 1), Ok(floats(&[10.0])));
        check(sys::cuMemFree_v2(x)).expect("freed");
        check(sys::cuLibraryUnload(library)).expect("unloaded");

        // the linker gives back what it was given
        let state = get(|s| sys::cuLinkCreate_v2(0, null_mut(), null_mut(), s)).expect("a linker");
        let ptx = sys::CUjitInputType::CU_JIT_INPUT_PTX;
        let data = image.as_ptr().cast_mut().cast();
        let length = image.as_bytes_with_nul().len();
        let (name, none) = (c"kernels".as_ptr(), null_mut());
        check(sys::cuLinkAddData_v2(
            state,
            ptx,
            data,
            length,
            name,
            0,
            none,
            null_mut(),
        ))
        .expect("an input");
        let (mut cubin, mut bytes) = (null_mut(), 0);
        check(sys::cuLinkComplete(state, &mut cubin, &mut bytes)).expect("an image");
        let module = get(|m| sys::cuModuleLoadData(m, cubin)).expect("a module");
        check(sys::cuLinkDestroy(state)).expect("destroyed");
        function(module, "axpy").expect("a kernel");
    }
    end(context);
}

#[test]
fn contexts_are_stacked_and_counted() {
    if !in_driver("contexts_are_stacked_and_counted") {
        return;
    }
    let first = start();
    // SAFETY: contexts that were made, and places for the answers.
    unsafe {
        let primary = get(|c| sys::cuDevicePrimaryCtxRetain(c, 0)).expect("a context");
        let current = || get(|c| sys::cuCtxGetCurrent(c)).expect("a context");
        assert_eq!(current(), first);
        check(sys::cuCtxPushCurrent_v2(primary)).expect("pushed");
        assert_eq!(current(), primary);
        let x = allocate(1000).expect("memory");
        let (mut free, mut total) = (0, 0);
        check(sys::cuMemGetInfo_v2(&mut free, &mut total)).expect("sizes");
        assert_eq!(total - free, 1000);
        check(sys::cuMemFree_v2(x)).expect("freed");
        let popped = get(|c| sys::cuCtxPopCurrent_v2(c)).expect("popped");
        assert_eq!((popped, current()), (primary, first));
        let (mut flags, mut active) = (0, 0);
        check(sys::cuDevicePrimaryCtxGetState(0, &mut flags, &mut active)).expect("a state");
        assert_eq!(active, 1);
        check(sys::cuDevicePrimaryCtxRelease_v2(0)).expect("released");
        check(sys::cuDevicePrimaryCtxGetState(0, &mut flags, &mut active)).expect("a state");
        assert_eq!(active, 0);
        check(sys::cuCtxSetCurrent(null_mut())).expect("none");
        assert_eq!(current(), null_mut());
        check(sys::cuCtxSetCurrent(first)).expect("it");
    }
    // a thread has a stack of its own
    let other = std::thread::spawn(|| {
        // SAFETY: a place for the answer.
        get(|c| unsafe { sys::cuCtxGetCurrent(c) })
            .expect("none")
            .is_null()
    });
    assert!(other.join().expect("a thread"));
    end(first);
}

/// The default stream waits for blocking streams and they for it; other streams do not.
#[test]
fn the_default_stream_orders_blocking_streams() {
    if !in_driver("the_default_stream_orders_blocking_streams") {
        return;
    }
    let context = start();
    let module = load(include_str!("programs/kernels.ptx")).expect("a module");
    let scale = function(module, "rescale").expect("a kernel");
    let x = allocate(16).expect("memory");
    // SAFETY: a place for the answer; sizes are those of the memory.
    unsafe {
        let blocking = get(|s| sys::cuStreamCreate(s, 0)).expect("a stream");
        check(sys::cuMemsetD32Async(x, 1.0f32.to_bits(), 4, blocking)).expect("work");
        rescale(scale, null_mut(), x, 4).expect("work");
        launch(
            scale,
            (1, 32, 0),
            blocking,
            &[&x.to_le_bytes(), &4u32.to_le_bytes()],
        )
        .expect("work");
        synchronise(blocking).expect("done");
        assert_eq!(download(x, 4), Ok(floats(&[4.0; 4])));
        check(sys::cuMemFree_v2(x)).expect("freed");
    }
    end(context);
}
