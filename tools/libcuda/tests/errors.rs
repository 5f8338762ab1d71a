//! Every way in which a program can be wrong has its result and its sentence.
#![allow(unsafe_code)]

mod common;

use std::ffi::c_void;
use std::ptr::null_mut;

use common::raw::{
    Result, allocate, check, download, floats, function, get, kernel, launch, load, rescale, start,
    stream, synchronise, upload,
};
use common::{again, inside};
use cudarc::driver::sys::{self, CUresult};

/// Runs a test where it finds the driver, and looks for sentences; true in that process.
fn in_driver(test: &str, settings: &[(&str, &str)], sentences: &[&str]) -> bool {
    if inside() {
        return true;
    }
    let mut ran = again(test, settings).succeeded();
    for sentence in sentences {
        ran = ran.says(sentence);
    }
    false
}

fn failed<T: std::fmt::Debug>(result: Result<T>) -> CUresult {
    result.expect_err("an error")
}

#[test]
fn images() {
    let sentences = [
        "cuModuleLoadData: PTX line 4: ",
        "the image is neither PTX nor a binary",
        "the image is machine code, which cannot be interpreted; load PTX instead",
        "PTX 99.0; the newest known is 9.5",
        "PTX for sm_90, which A100 (interpreted) cannot run",
        "cuModuleLoad: nowhere.ptx: No such file",
    ];
    if !in_driver("images", &[("DEVICE", "A100")], &sentences) {
        return;
    }
    start();
    let head = |version: &str, target: &str| {
        format!(".version {version}\n.target {target}\n.address_size 64\n")
    };
    let unknown = head("8.0", "sm_80") + ".visible .entry k() { frobnicate.u32 %r0; ret; }";
    assert_eq!(failed(load(&unknown)), CUresult::CUDA_ERROR_INVALID_PTX);
    assert_eq!(failed(load("hello")), CUresult::CUDA_ERROR_INVALID_IMAGE);
    assert_eq!(
        failed(load("\x7fELF")),
        CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU
    );
    assert_eq!(
        failed(load(&head("99.0", "sm_80"))),
        CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
    );
    assert_eq!(
        failed(load(&head("8.0", "sm_90"))),
        CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU
    );
    // SAFETY: a path that ends with a zero.
    let nowhere = get(|m| unsafe { sys::cuModuleLoad(m, c"nowhere.ptx".as_ptr()) });
    assert_eq!(failed(nowhere), CUresult::CUDA_ERROR_FILE_NOT_FOUND);

    // the log of the just-in-time compiler
    let mut log = [0u8; 200];
    let mut names = [
        sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER,
        sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
    ];
    let mut values = [log.as_mut_ptr().cast::<c_void>(), 200 as *mut c_void];
    let image = std::ffi::CString::new(unknown).expect("no zero inside");
    // SAFETY: two options, of which the first is the place that the second gives the length of.
    let code = get(|m| unsafe {
        let (names, values) = (names.as_mut_ptr(), values.as_mut_ptr());
        sys::cuModuleLoadDataEx(m, image.as_ptr().cast(), 2, names, values)
    });
    assert_eq!(failed(code), CUresult::CUDA_ERROR_INVALID_PTX);
    let length = values[1] as usize;
    let said = std::str::from_utf8(&log[..length]).expect("a text");
    assert!(said.contains("frobnicate"), "{said}");
}

#[test]
fn names() {
    let sentences = [
        "no kernel nothing; there are: axpy, rescale, race, shared",
        "no variable nothing; there are: scale",
        "0x123450 is not a module, or one that was unloaded",
        "is not a kernel, or one whose module was unloaded",
    ];
    if !in_driver("names", &[], &sentences) {
        return;
    }
    start();
    let module = load(include_str!("programs/kernels.ptx")).expect("a module");
    assert_eq!(
        failed(function(module, "nothing")),
        CUresult::CUDA_ERROR_NOT_FOUND
    );
    let bytes = null_mut();
    // SAFETY: a name that ends with a zero, and a place for the answer.
    let variable = get(|a: *mut u64| unsafe {
        sys::cuModuleGetGlobal_v2(a, bytes, module, c"nothing".as_ptr())
    });
    assert_eq!(failed(variable), CUresult::CUDA_ERROR_NOT_FOUND);
    assert_eq!(
        failed(function(0x123450 as sys::CUmodule, "axpy")),
        CUresult::CUDA_ERROR_INVALID_HANDLE
    );
    let rescaled = function(module, "rescale").expect("a kernel");
    // SAFETY: a module that was loaded.
    check(unsafe { sys::cuModuleUnload(module) }).expect("unloaded");
    let x = upload(&[0]);
    assert_eq!(
        failed(rescale(rescaled, null_mut(), x, 1)),
        CUresult::CUDA_ERROR_INVALID_HANDLE
    );
}

#[test]
fn memory() {
    let sentences = [
        "cuMemAlloc: 2000000 bytes do not fit: 0 of 1048576 bytes are in use",
        "cuMemAlloc: an allocation of 0 bytes",
        "8 bytes at 0x10000000",
        "do not lie within the 4 bytes at",
        "cuMemcpyDtoH: 4 bytes at 0x3039: no memory of the device is there",
        "use after free of 4 bytes at",
        "was freed already",
        "no memory that this call frees starts at",
        "cuMemcpyHtoD: a null pointer",
    ];
    if !in_driver("memory", &[("MEMORY", "1M")], &sentences) {
        return;
    }
    start();
    let invalid = CUresult::CUDA_ERROR_INVALID_VALUE;
    assert_eq!(
        failed(allocate(2_000_000)),
        CUresult::CUDA_ERROR_OUT_OF_MEMORY
    );
    assert_eq!(failed(allocate(0)), invalid);
    let x = upload(&[7]);
    assert_eq!(failed(download(x, 2)), invalid);
    assert_eq!(failed(download(12345, 1)), invalid);
    // SAFETY: the driver is to see that these are wrong, before it uses them.
    unsafe {
        assert_eq!(failed(check(sys::cuMemFree_v2(x + 4))), invalid);
        let code = sys::cuMemcpyHtoD_v2(x, std::ptr::null(), 4);
        assert_eq!(failed(check(code)), invalid);
        check(sys::cuMemFree_v2(x)).expect("freed");
        assert_eq!(failed(download(x, 1)), invalid);
        assert_eq!(failed(check(sys::cuMemFree_v2(x))), invalid);
    }
}

#[test]
fn launches() {
    let sentences = [
        "shared: 50000 bytes of dynamic shared memory; 49152 are allowed",
        "240000 bytes of dynamic shared memory; at most 232448 fit",
        "shared: a block of [2048, 1, 1] threads; the kernel takes 1 to 1024",
        "a grid of [0, 1, 1] blocks",
    ];
    if !in_driver("launches", &[], &sentences) {
        return;
    }
    start();
    let invalid = CUresult::CUDA_ERROR_INVALID_VALUE;
    let shared = kernel("shared");
    let x = allocate(4 * 64).expect("memory");
    let run = |shape| launch(shared, shape, null_mut(), &[&x.to_le_bytes()]);
    assert_eq!(failed(run((1, 64, 50_000))), invalid);
    assert_eq!(failed(run((1, 2048, 256))), invalid);
    assert_eq!(failed(run((0, 64, 256))), invalid);
    let dynamic = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    // SAFETY: a kernel.
    let allow = |bytes| check(unsafe { sys::cuFuncSetAttribute(shared, dynamic, bytes) });
    assert_eq!(failed(allow(240_000)), invalid);
    allow(50_000).expect("room");
    run((1, 64, 50_000)).expect("a launch");
    let want: Vec<u32> = (0..64).map(|i| i ^ 1).collect();
    assert_eq!(download(x, 64).expect("a copy"), want);
}

#[test]
fn a_kernel_that_reads_where_nothing_is_fails_its_context() {
    let test = "a_kernel_that_reads_where_nothing_is_fails_its_context";
    let sentences = ["OutOfBounds in rescale, PTX line"];
    if !in_driver(test, &[], &sentences) {
        return;
    }
    let context = start();
    let scale = kernel("rescale");
    let x = upload(&floats(&[1.0; 10]));
    rescale(scale, null_mut(), x, 11).expect("work that waits");
    let illegal = CUresult::CUDA_ERROR_ILLEGAL_ADDRESS;
    assert_eq!(failed(synchronise(null_mut())), illegal);
    // from now on everything fails, until there is another context
    assert_eq!(failed(allocate(4)), illegal);
    assert_eq!(failed(download(x, 1)), illegal);
    // SAFETY: the context that was made.
    check(unsafe { sys::cuCtxDestroy_v2(context) }).expect("destroyed");
    start();
    let x = upload(&floats(&[1.0; 10]));
    rescale(kernel("rescale"), null_mut(), x, 10).expect("a launch");
    assert_eq!(download(x, 10).expect("a copy"), floats(&[2.0; 10]));
}

#[test]
fn a_kernel_that_uses_freed_memory_is_found() {
    let test = "a_kernel_that_uses_freed_memory_is_found";
    if !in_driver(test, &[], &["UseAfterFree in rescale, PTX line"]) {
        return;
    }
    start();
    let scale = kernel("rescale");
    let (first, second) = (stream(), stream());
    // SAFETY: a place for the answer.
    let x = get(|x| unsafe { sys::cuMemAllocAsync(x, 40, first) }).expect("memory");
    // SAFETY: memory of that stream. That the other stream still uses it is the mistake.
    check(unsafe { sys::cuMemFreeAsync(x, first) }).expect("work that waits");
    synchronise(first).expect("freed");
    rescale(scale, second, x, 10).expect("work that waits");
    assert_eq!(
        failed(synchronise(second)),
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
    );
}

#[test]
fn a_wait_that_is_missing_between_streams_shows() {
    let test = "a_wait_that_is_missing_between_streams_shows";
    if !in_driver(test, &[], &["Uninitialised in rescale, PTX line"]) {
        return;
    }
    start();
    let scale = kernel("rescale");
    let (first, second) = (stream(), stream());
    let x = allocate(40).expect("memory");
    // SAFETY: memory of 10 numbers.
    check(unsafe { sys::cuMemsetD32Async(x, 1.0f32.to_bits(), 10, first) }).expect("a fill");
    // an event of the first stream should be waited for here
    rescale(scale, second, x, 10).expect("work that waits");
    assert_eq!(
        failed(synchronise(second)),
        CUresult::CUDA_ERROR_LAUNCH_FAILED
    );
}

#[test]
fn calls_that_a_capture_forbids() {
    let sentences = [
        "not permitted while a stream is being captured",
        "the default stream cannot be captured; create a stream",
        "an earlier call spoiled the capture",
        "the capture spread to a stream that was not waited for",
        "a stream that is being captured cannot wait for work that is not",
    ];
    if !in_driver("calls_that_a_capture_forbids", &[], &sentences) {
        return;
    }
    start();
    let scale = kernel("rescale");
    let x = upload(&floats(&[1.0; 10]));
    let (first, second) = (stream(), stream());
    let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL;
    // SAFETY: streams and events that exist, and places for the answers.
    let begin = |stream| check(unsafe { sys::cuStreamBeginCapture_v2(stream, mode) });
    let end = |stream| get(|g| unsafe { sys::cuStreamEndCapture(stream, g) });
    let event = get(|e| unsafe { sys::cuEventCreate(e, 0) }).expect("an event");
    let record = |stream| check(unsafe { sys::cuEventRecord(event, stream) });
    let wait = |stream| check(unsafe { sys::cuStreamWaitEvent(stream, event, 0) });
    let unsupported = CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    assert_eq!(failed(begin(null_mut())), unsupported);
    begin(first).expect("a capture");
    assert_eq!(failed(allocate(4)), unsupported);
    assert_eq!(
        failed(rescale(scale, first, x, 10)),
        CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
    );
    assert_eq!(
        failed(end(first)),
        CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
    );
    begin(first).expect("a capture");
    rescale(scale, first, x, 10).expect("a node");
    record(first).expect("a mark");
    wait(second).expect("a part of the capture");
    rescale(scale, second, x, 10).expect("a node");
    assert_eq!(
        failed(end(first)),
        CUresult::CUDA_ERROR_STREAM_CAPTURE_UNJOINED
    );
    record(second).expect("an event");
    begin(first).expect("a capture");
    assert_eq!(
        failed(wait(first)),
        CUresult::CUDA_ERROR_STREAM_CAPTURE_ISOLATION
    );
}

#[test]
fn a_function_that_a_stream_runs_may_not_call_the_driver() {
    let test = "a_function_that_a_stream_runs_may_not_call_the_driver";
    let sentences = ["cuMemAlloc: called from a function that a stream runs"];
    if !in_driver(test, &[], &sentences) {
        return;
    }
    unsafe extern "C" fn function(data: *mut c_void) {
        let result = allocate(4);
        // SAFETY: the place that was given with the function.
        unsafe { data.cast::<Option<Result<u64>>>().write(Some(result)) };
    }
    start();
    let mut result: Option<Result<u64>> = None;
    let place = (&raw mut result).cast();
    // SAFETY: the place lives until the stream has run the function.
    check(unsafe { sys::cuLaunchHostFunc(null_mut(), Some(function), place) }).expect("work");
    synchronise(null_mut()).expect("done");
    assert_eq!(result, Some(Err(CUresult::CUDA_ERROR_NOT_PERMITTED)));
}

#[test]
fn nothing_works_before_it_is_begun() {
    let test = "nothing_works_before_it_is_begun";
    let sentences = [
        "cuMemAlloc: cuInit has not been called",
        "cuMemAlloc: no context is current on this thread",
    ];
    if !in_driver(test, &[], &sentences) {
        return;
    }
    assert_eq!(failed(allocate(4)), CUresult::CUDA_ERROR_NOT_INITIALIZED);
    // SAFETY: a function of one number.
    check(unsafe { sys::cuInit(0) }).expect("a driver");
    assert_eq!(failed(allocate(4)), CUresult::CUDA_ERROR_INVALID_CONTEXT);
}
