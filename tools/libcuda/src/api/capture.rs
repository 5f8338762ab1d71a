//! Capture of streams into graphs.

use crate::boundary::{In, Out};
use crate::code::{Code, Result, fail};
use crate::driver::{Handle, Session, call};

/// Capture states (`CUstreamCaptureStatus`).
const NONE: i32 = 0;
const ACTIVE: i32 = 1;
const INVALIDATED: i32 = 2;

#[unsafe(no_mangle)]
extern "C" fn cuStreamBeginCapture_v2(stream: Handle, mode: i32) -> i32 {
    call("cuStreamBeginCapture", |driver| {
        let stream = driver.stream(stream)?;
        let graph = driver.new_graph();
        let begun = driver.begin_capture(stream, mode, graph, vec![]);
        if begun.is_err() {
            driver.destroy_graph(graph)?;
        }
        begun
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamBeginCaptureToGraph(
    stream: Handle,
    graph: Handle,
    needs: In<Handle>,
    _edges: In<u64>,
    count: usize,
    mode: i32,
) -> i32 {
    call("cuStreamBeginCaptureToGraph", |driver| {
        let stream = driver.stream(stream)?;
        driver.graph(graph)?;
        let needs = needs.list(count)?;
        driver.begin_capture(stream, mode, graph, needs)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamEndCapture(stream: Handle, graph: Out<Handle>) -> i32 {
    call("cuStreamEndCapture", |driver| {
        let stream = driver.stream(stream)?;
        match driver.end_capture(stream) {
            Ok(made) => graph.put(made),
            Err(failure) => {
                graph.put(0)?;
                Err(failure)
            }
        }
    })
}

/// State of a stream, its capture and the graph that is made.
fn state(driver: &mut Session, stream: Handle) -> Result<(i32, u64, Handle, Vec<Handle>)> {
    let stream = driver.stream(stream)?;
    let Some(part) = driver.streams[&stream].capturing.clone() else {
        return Ok((NONE, 0, 0, vec![]));
    };
    if driver.is_invalid(part.capture) {
        return Ok((INVALIDATED, 0, 0, vec![]));
    }
    let graph = driver.captures[&part.capture].graph;
    Ok((ACTIVE, part.capture, graph, part.tips))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamIsCapturing(stream: Handle, status: Out<i32>) -> i32 {
    call("cuStreamIsCapturing", |driver| {
        status.put(state(driver, stream)?.0)
    })
}

fn information(
    stream: Handle,
    status: Out<i32>,
    id: Out<u64>,
    graph: Out<Handle>,
    needs: Out<usize>,
    count: Out<usize>,
) -> i32 {
    call("cuStreamGetCaptureInfo", |driver| {
        if !needs.is_null() {
            return fail(
                Code::NOT_SUPPORTED,
                "the nodes that the next one comes after are not served; pass null",
            );
        }
        let (now, capture, made, tips) = state(driver, stream)?;
        status.put(now)?;
        id.put_if_asked(capture);
        graph.put_if_asked(made);
        count.put_if_asked(tips.len());
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamGetCaptureInfo(stream: Handle, status: Out<i32>, id: Out<u64>) -> i32 {
    information(stream, status, id, Out::NULL, Out::NULL, Out::NULL)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamGetCaptureInfo_v2(
    stream: Handle,
    status: Out<i32>,
    id: Out<u64>,
    graph: Out<Handle>,
    needs: Out<usize>,
    count: Out<usize>,
) -> i32 {
    information(stream, status, id, graph, needs, count)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamGetCaptureInfo_v3(
    stream: Handle,
    status: Out<i32>,
    id: Out<u64>,
    graph: Out<Handle>,
    needs: Out<usize>,
    _edges: Out<usize>,
    count: Out<usize>,
) -> i32 {
    information(stream, status, id, graph, needs, count)
}

/// Capture modes of threads forbid nothing that this driver could not do, so there is nothing to exchange but a value.
#[unsafe(no_mangle)]
extern "C" fn cuThreadExchangeStreamCaptureMode(mode: Out<i32>) -> i32 {
    thread_local! {
        static MODE: std::cell::Cell<i32> = const { std::cell::Cell::new(0) };
    }
    call("cuThreadExchangeStreamCaptureMode", |_| {
        let new = mode.get()?;
        if !(0..=2).contains(&new) {
            return fail(Code::INVALID_VALUE, format!("{new} is no capture mode"));
        }
        mode.put(MODE.replace(new))
    })
}
