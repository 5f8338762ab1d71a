//! Products of an unmodified program that uses cudarc.
#![allow(unsafe_code)]

use std::process::Command;

use cuda_interpreted::links;
use cudarc::cublaslt::{Activation, CudaBlasLT, Matmul, MatmulConfig};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream};
use half::{bf16, f16};

/// Set in the process that finds the libraries.
const INSIDE: &str = "INSIDE_INTERPRETED_CUDA";

/// In the process that finds the libraries: true. Elsewhere it runs this test there, and its standard error has the text.
fn inside(test: &str, text: &str, succeeds: bool) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let folder = tempfile::TempDir::new().expect("a folder");
    let program = std::env::current_exe().expect("a path");
    links::make(folder.path(), &program).unwrap_or_else(|error| panic!("{error}"));
    let output = Command::new(program)
        .args(["--exact", test, "--nocapture"])
        .env("LD_LIBRARY_PATH", links::search_path(folder.path()))
        .env(INSIDE, "1")
        .output()
        .expect("a process");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.success(), succeeds, "{said}");
    assert!(said.contains(text), "no {text:?} in {said}");
    false
}

fn stream() -> std::sync::Arc<CudaStream> {
    let context = CudaContext::new(0).expect("a device");
    context.new_stream().expect("a stream")
}

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count)
        .map(|i| ((i * 7 + seed * 13) % 17) as f32 / 8.0 - 1.0)
        .collect()
}

fn plain(m: usize, n: usize, k: usize) -> MatmulConfig {
    MatmulConfig {
        transa: false,
        transb: false,
        transc: false,
        m: m as u64,
        n: n as u64,
        k: k as u64,
        alpha: 1.0,
        lda: m as i64,
        ldb: k as i64,
        beta: 0.0,
        ldc: m as i64,
        stride_a: None,
        stride_b: None,
        stride_c: None,
        stride_bias: None,
        batch_size: None,
    }
}

/// alpha op(A) op(B) + beta C + bias, all column by column.
fn truth(config: &MatmulConfig, a: &[f32], b: &[f32], c: &[f32], bias: &[f32]) -> Vec<f32> {
    let (m, n, k) = (config.m as usize, config.n as usize, config.k as usize);
    let at_a = |i: usize, p: usize| {
        if config.transa {
            a[i * k + p]
        } else {
            a[p * m + i]
        }
    };
    let at_b = |p: usize, j: usize| {
        if config.transb {
            b[p * n + j]
        } else {
            b[j * k + p]
        }
    };
    let mut out = vec![];
    for j in 0..n {
        for i in 0..m {
            let sum: f32 = (0..k).map(|p| at_a(i, p) * at_b(p, j)).sum();
            out.push(config.alpha * sum + config.beta * c[j * m + i] + bias[i]);
        }
    }
    out
}

fn close(found: &[f32], wanted: &[f32], within: f32) {
    assert_eq!(found.len(), wanted.len());
    for (i, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        assert!(
            (found - wanted).abs() <= within,
            "{i}: {found}, not {wanted}"
        );
    }
}

#[test]
fn f32_with_transposes_scalars_and_bias() {
    if !inside("f32_with_transposes_scalars_and_bias", "", true) {
        return;
    }
    let stream = stream();
    let blas = CudaBlasLT::new(stream.clone()).expect("a handle");
    let (m, n, k) = (5, 3, 4);
    for (transa, transb) in [(false, false), (true, false), (false, true), (true, true)] {
        let config = MatmulConfig {
            transa,
            transb,
            alpha: 0.5,
            beta: 2.0,
            lda: if transa { k } else { m } as i64,
            ldb: if transb { n } else { k } as i64,
            ..plain(m, n, k)
        };
        let (a, b, c) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
        let bias = numbers(m, 4);
        let device = |values: &[f32]| stream.clone_htod(values).expect("a copy");
        let mut out = device(&c);
        let bias_there = device(&bias);
        // SAFETY: the buffers are as large as the shapes say.
        unsafe {
            blas.matmul(
                config,
                &device(&a),
                &device(&b),
                &mut out,
                Some(&bias_there),
                None,
            )
        }
        .expect("a product");
        let found = stream.clone_dtoh(&out).expect("a copy");
        close(&found, &truth(&config, &a, &b, &c, &bias), 1e-6);
    }
}

#[test]
fn half_precisions_and_activations() {
    if !inside("half_precisions_and_activations", "", true) {
        return;
    }
    let stream = stream();
    let blas = CudaBlasLT::new(stream.clone()).expect("a handle");
    let (m, n, k) = (8, 6, 10);
    let config = plain(m, n, k);
    let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
    let want = truth(&config, &a, &b, &vec![0.0; m * n], &vec![0.0; m]);
    let relu: Vec<f32> = want.iter().map(|x| x.max(0.0)).collect();

    let bf: CudaSlice<bf16> = stream
        .clone_htod(&a.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>())
        .expect("a copy");
    let bg: CudaSlice<bf16> = stream
        .clone_htod(&b.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>())
        .expect("a copy");
    let mut out = stream.alloc_zeros::<bf16>(m * n).expect("memory");
    // SAFETY: the buffers are as large as the shapes say.
    unsafe { blas.matmul(config, &bf, &bg, &mut out, None, Some(&Activation::Relu)) }
        .expect("a product");
    let found: Vec<f32> = stream
        .clone_dtoh(&out)
        .expect("a copy")
        .into_iter()
        .map(bf16::to_f32)
        .collect();
    close(&found, &relu, 0.02);

    let hf: CudaSlice<f16> = stream
        .clone_htod(&a.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>())
        .expect("a copy");
    let hg: CudaSlice<f16> = stream
        .clone_htod(&b.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>())
        .expect("a copy");
    let mut out = stream.alloc_zeros::<f16>(m * n).expect("memory");
    // SAFETY: the buffers are as large as the shapes say.
    unsafe { blas.matmul(config, &hf, &hg, &mut out, None, Some(&Activation::Gelu)) }
        .expect("a product");
    let found: Vec<f32> = stream
        .clone_dtoh(&out)
        .expect("a copy")
        .into_iter()
        .map(f16::to_f32)
        .collect();
    let gelu = |x: f32| 0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044715 * x * x * x)).tanh());
    close(
        &found,
        &want.iter().map(|x| gelu(*x)).collect::<Vec<_>>(),
        0.005,
    );
}

#[test]
fn a_batch_in_a_graph() {
    if !inside("a_batch_in_a_graph", "", true) {
        return;
    }
    let stream = stream();
    // SAFETY: everything here is in one stream.
    unsafe { stream.context().disable_event_tracking() };
    let blas = CudaBlasLT::new(stream.clone()).expect("a handle");
    let (m, n, k, batch) = (4, 2, 3, 2);
    let config = MatmulConfig {
        stride_a: Some((m * k) as i64),
        stride_b: Some((k * n) as i64),
        stride_c: Some((m * n) as i64),
        batch_size: Some(batch as i32),
        beta: 1.0,
        ..plain(m, n, k)
    };
    let (a, b) = (numbers(batch * m * k, 1), numbers(batch * k * n, 2));
    let (a_there, b_there) = (
        stream.clone_htod(&a).expect("a copy"),
        stream.clone_htod(&b).expect("a copy"),
    );
    let mut out = stream.alloc_zeros::<f32>(batch * m * n).expect("memory");
    stream
        .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
        .expect("a capture");
    // SAFETY: the buffers are as large as the shapes say.
    unsafe { blas.matmul(config, &a_there, &b_there, &mut out, None, None) }.expect("a product");
    let graph = stream
        .end_capture(CUgraphInstantiate_flags(0))
        .expect("a capture")
        .expect("a graph");
    graph.launch().expect("a launch");
    graph.launch().expect("a launch");
    let found = stream.clone_dtoh(&out).expect("a copy");
    for i in 0..batch {
        let (a, b) = (&a[i * m * k..], &b[i * k * n..]);
        let once = truth(&config, a, b, &vec![0.0; m * n], &vec![0.0; m]);
        let twice: Vec<f32> = once.iter().map(|x| 2.0 * x).collect();
        close(&found[i * m * n..][..m * n], &twice, 1e-6);
    }
}

#[test]
fn reading_what_nobody_wrote_is_found() {
    let test = "reading_what_nobody_wrote_is_found";
    if !inside(test, "a product reads bytes that nobody wrote", true) {
        return;
    }
    let stream = stream();
    let blas = CudaBlasLT::new(stream.clone()).expect("a handle");
    // SAFETY: nothing is read on the host.
    let a = unsafe { stream.alloc::<f32>(16) }.expect("memory");
    let b = stream.alloc_zeros::<f32>(16).expect("memory");
    let mut out = stream.alloc_zeros::<f32>(16).expect("memory");
    // SAFETY: the buffers are as large as the shapes say.
    unsafe { blas.matmul(plain(4, 4, 4), &a, &b, &mut out, None, None) }.expect("work that waits");
    assert!(stream.synchronize().is_err());
    // what is dropped now would fail as well
    std::process::exit(0);
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let test = "shapes_that_do_not_fit_are_refused";
    if !inside(test, "do not lie within", true) {
        return;
    }
    let stream = stream();
    let blas = CudaBlasLT::new(stream.clone()).expect("a handle");
    let small = stream.alloc_zeros::<f32>(8).expect("memory");
    let mut out = stream.alloc_zeros::<f32>(16).expect("memory");
    // SAFETY: the library is to see that a buffer is too small.
    let refused = unsafe { blas.matmul(plain(4, 4, 4), &small, &small, &mut out, None, None) };
    assert!(refused.is_err());
}
