//! Programs written with cudarc, which know nothing of the interpreter.

#![allow(unsafe_code)]

mod common;

use std::sync::Arc;

use common::{again, inside};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaStream, DriverError, LaunchConfig, PushKernelArg,
};
use cudarc::nvrtc::{CompileOptions, Ptx, compile_ptx_with_opts};

const PTX: &str = include_str!("programs/kernels.ptx");
const SOURCE: &str = include_str!("programs/kernels.cu");

fn context() -> Arc<CudaContext> {
    CudaContext::new(0).expect("a device")
}

fn kernel(context: &Arc<CudaContext>, name: &str) -> CudaFunction {
    let module = context.load_module(Ptx::from_src(PTX)).expect("a module");
    module.load_function(name).expect("a kernel")
}

fn axpy(
    stream: &Arc<CudaStream>,
    kernel: &CudaFunction,
    n: usize,
) -> Result<Vec<f32>, DriverError> {
    let x = stream.clone_htod(&(0..n).map(|i| i as f32).collect::<Vec<_>>())?;
    let mut y = stream.alloc_zeros::<f32>(n)?;
    let config = LaunchConfig::for_num_elems(n as u32);
    let (a, count) = (3.0f32, n as u32);
    let mut launch = stream.launch_builder(kernel);
    launch.arg(&mut y).arg(&x).arg(&a).arg(&count);
    // SAFETY: the arguments are those of the kernel, and the buffers have `n` elements.
    unsafe { launch.launch(config) }?;
    stream.clone_dtoh(&y)
}

fn check(y: &[f32]) {
    for (i, y) in y.iter().enumerate() {
        assert_eq!(*y, 3.0 * i as f32);
    }
}

#[test]
fn a_kernel_runs_on_a_stream() {
    if !inside() {
        for work in ["late", "early"] {
            let ran = again("a_kernel_runs_on_a_stream", &[("WORK", work)]).succeeded();
            assert!(!ran.stderr.contains("interpreted"), "{}", ran.stderr);
        }
        return;
    }
    let context = context();
    let kernel = kernel(&context, "axpy");
    for stream in [
        context.default_stream(),
        context.new_stream().expect("a stream"),
    ] {
        check(&axpy(&stream, &kernel, 1000).expect("a launch"));
    }
}

#[test]
fn a_kernel_is_compiled_with_nvrtc() {
    if common::nvrtc().is_none() {
        println!("skipped: no NVRTC here (pip install nvidia-cuda-nvrtc-cu12)");
        return;
    }
    if !inside() {
        again("a_kernel_is_compiled_with_nvrtc", &[]).succeeded();
        return;
    }
    let context = context();
    let options = CompileOptions {
        arch: Some("compute_80"),
        ..CompileOptions::default()
    };
    let ptx = compile_ptx_with_opts(SOURCE, options).expect("PTX");
    let module = context.load_module(ptx).expect("a module");
    let kernel = module.load_function("axpy").expect("a kernel");
    check(&axpy(&context.default_stream(), &kernel, 300).expect("a launch"));
}

#[test]
fn events_order_streams_and_tell_simulated_time() {
    if !inside() {
        again("events_order_streams_and_tell_simulated_time", &[]).succeeded();
        return;
    }
    let context = context();
    let kernel = kernel(&context, "rescale");
    let streams = [0, 1].map(|_| context.new_stream().expect("a stream"));
    let n = 4096u32;
    let mut x = streams[0]
        .clone_htod(&vec![1.0f32; n as usize])
        .expect("a copy");
    let timed = cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT;
    let start = streams[0].record_event(Some(timed)).expect("an event");
    for i in 0..6 {
        let stream = &streams[i % 2];
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&mut x).arg(&n);
        // SAFETY: the arguments are those of the kernel.
        unsafe { launch.launch(LaunchConfig::for_num_elems(n)) }.expect("a launch");
    }
    let end = streams[1].record_event(Some(timed)).expect("an event");
    let milliseconds = start.elapsed_ms(&end).expect("a time");
    assert!(
        milliseconds > 0.01 && milliseconds < 1.0,
        "{milliseconds} ms for six small kernels"
    );
    assert_eq!(
        streams[0].clone_dtoh(&x).expect("a copy"),
        vec![64.0; n as usize]
    );
}

#[test]
fn a_graph_is_captured_and_launched_again() {
    if !inside() {
        again("a_graph_is_captured_and_launched_again", &[]).succeeded();
        return;
    }
    let context = context();
    // SAFETY: everything here is in one stream.
    unsafe { context.disable_event_tracking() };
    let kernel = kernel(&context, "rescale");
    let stream = context.new_stream().expect("a stream");
    let n = 100u32;
    let mut x = stream
        .clone_htod(&vec![1.0f32; n as usize])
        .expect("a copy");
    let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    stream.begin_capture(mode).expect("a capture");
    for _ in 0..2 {
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&mut x).arg(&n);
        // SAFETY: the arguments are those of the kernel.
        unsafe { launch.launch(LaunchConfig::for_num_elems(n)) }.expect("a launch");
    }
    let flags = CUgraphInstantiate_flags(0);
    let graph = stream.end_capture(flags).expect("a capture");
    let graph = graph.expect("a graph");
    assert_eq!(
        stream.clone_dtoh(&x).expect("a copy"),
        vec![1.0; n as usize]
    );
    for _ in 0..3 {
        graph.launch().expect("a launch");
    }
    assert_eq!(
        stream.clone_dtoh(&x).expect("a copy"),
        vec![64.0; n as usize]
    );
}

#[test]
fn the_device_has_the_name_that_was_asked_for() {
    if !inside() {
        for (device, capability) in [("H100", "(9, 0)"), ("A100", "(8, 0)")] {
            let ran = again(
                "the_device_has_the_name_that_was_asked_for",
                &[("DEVICE", device), ("MEMORY", "100M")],
            )
            .succeeded();
            let want = format!("{device} (interpreted) {capability} 104857600");
            assert!(ran.stdout.contains(&want), "{}", ran.stdout);
        }
        let ran = again(
            "the_device_has_the_name_that_was_asked_for",
            &[("DEVICE", "B200")],
        );
        assert!(!ran.success);
        ran.says("TTT_INTERPRETED_DEVICE is \"B200\"; it can be H100 or A100");
        return;
    }
    let context = context();
    println!(
        "{} {:?} {}",
        context.name().expect("a name"),
        context.compute_capability().expect("a capability"),
        context.total_mem().expect("a size"),
    );
}

#[test]
fn a_finding_fails_the_program_or_is_only_reported() {
    if !inside() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let file = folder.path().join("findings");
        let file = file.to_str().expect("a path of text");
        let ran = again(
            "a_finding_fails_the_program_or_is_only_reported",
            &[("FINDINGS_FILE", file)],
        );
        let ran = ran.succeeded().says("Race in race, PTX line");
        assert!(
            ran.stdout.contains("CUDA_ERROR_LAUNCH_FAILED"),
            "{}",
            ran.stdout
        );
        let lines = std::fs::read_to_string(file).expect("a report");
        let finding: ptx::Finding =
            serde_json::from_str(lines.lines().next().expect("a line")).expect("a finding");
        assert_eq!(finding.kind, ptx::Kind::Race);
        let ran = again(
            "a_finding_fails_the_program_or_is_only_reported",
            &[("FINDINGS", "report")],
        );
        let ran = ran.succeeded().says("Race in race, PTX line");
        assert!(ran.stdout.contains("no error"), "{}", ran.stdout);
        return;
    }
    let context = context();
    let kernel = kernel(&context, "race");
    let stream = context.default_stream();
    let mut x = stream.alloc_zeros::<u32>(1).expect("memory");
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&mut x);
    let config = LaunchConfig {
        grid_dim: (3, 1, 1),
        block_dim: (1, 1, 1),
        shared_mem_bytes: 0,
    };
    // SAFETY: the argument is that of the kernel.
    unsafe { launch.launch(config) }.expect("work that waits");
    match stream.synchronize() {
        Ok(()) => println!("no error"),
        Err(DriverError(code)) => {
            println!("{code:?}");
            assert_eq!(code, CUresult::CUDA_ERROR_LAUNCH_FAILED);
        }
    }
}
