//! Streams.

use crate::boundary::{Bytes, HostFunction, Out, StreamFunction};
use crate::code::{Code, Result, fail};
use crate::driver::{Handle, Session, call};
use crate::host::Callback;
use crate::stream::Stream;
use crate::work::Op;

/// The highest priority; 0 is the lowest.
pub const GREATEST_PRIORITY: i32 = -5;
/// A flag: the default stream does not wait for it, nor it for the default stream.
const NON_BLOCKING: u32 = 1;

fn create(name: &str, out: Out<Handle>, flags: u32, priority: i32) -> i32 {
    call(name, |driver| {
        let context = driver.healthy()?;
        if flags & !NON_BLOCKING != 0 {
            return fail(Code::INVALID_VALUE, format!("no stream flags {flags:#x}"));
        }
        let handle = driver.new_handle();
        out.put(handle)?;
        let stream = Stream {
            non_blocking: flags & NON_BLOCKING != 0,
            priority: priority.clamp(GREATEST_PRIORITY, 0),
            ..Stream::new(context)
        };
        driver.streams.insert(handle, stream);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamCreate(out: Out<Handle>, flags: u32) -> i32 {
    create("cuStreamCreate", out, flags, 0)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamCreateWithPriority(out: Out<Handle>, flags: u32, priority: i32) -> i32 {
    create("cuStreamCreateWithPriority", out, flags, priority)
}

fn destroy(stream: Handle) -> i32 {
    call("cuStreamDestroy", |driver| {
        let resolved = driver.stream(stream)?;
        if resolved != stream {
            return fail(Code::INVALID_HANDLE, "a default stream cannot be destroyed");
        }
        if let Some(part) = driver.streams[&stream].capturing.clone() {
            driver.invalidate(part.capture);
        } else {
            driver.finish_stream(stream)?;
        }
        driver.streams.remove(&stream);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamDestroy(stream: Handle) -> i32 {
    destroy(stream)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamDestroy_v2(stream: Handle) -> i32 {
    destroy(stream)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamSynchronize(stream: Handle) -> i32 {
    call("cuStreamSynchronize", |driver| {
        let stream = driver.stream(stream)?;
        driver.finish_stream(stream)
    })
}

/// Not ready while work is left; then it goes on a little, so that whoever asks again and again gets on.
#[unsafe(no_mangle)]
extern "C" fn cuStreamQuery(stream: Handle) -> i32 {
    call("cuStreamQuery", |driver| {
        let stream = driver.stream(stream)?;
        let (tail, context) = (
            driver.streams[&stream].tail,
            driver.streams[&stream].context,
        );
        if let Some(part) = driver.streams[&stream].capturing.clone() {
            driver.invalidate(part.capture);
            return fail(
                Code::STREAM_CAPTURE_UNSUPPORTED,
                "a stream that is being captured has no work to ask for",
            );
        }
        let waited = driver.advance(&[tail]);
        driver.check_context(context)?;
        match waited {
            true => Err(Code::NOT_READY.into()),
            false => Ok(()),
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamWaitEvent(stream: Handle, event: Handle, _flags: u32) -> i32 {
    call("cuStreamWaitEvent", |driver| {
        let stream = driver.stream(stream)?;
        driver.wait_event(stream, event)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamAddCallback(
    stream: Handle,
    function: StreamFunction,
    data: Bytes,
    _flags: u32,
) -> i32 {
    call("cuStreamAddCallback", |driver| {
        let resolved = driver.stream(stream)?;
        let Some(function) = function else {
            return fail(Code::INVALID_VALUE, "the function is null");
        };
        let call = data.call(Callback::Stream(function, stream));
        driver.submit(resolved, Op::Host(call))
    })
}

/// Has a stream call a function of the program.
pub fn launch_host(
    driver: &mut Session,
    stream: Handle,
    function: HostFunction,
    data: Bytes,
) -> Result<()> {
    let stream = driver.stream(stream)?;
    let Some(function) = function else {
        return fail(Code::INVALID_VALUE, "the function is null");
    };
    driver.submit(stream, Op::Host(data.call(Callback::Host(function))))
}

#[unsafe(no_mangle)]
extern "C" fn cuLaunchHostFunc(stream: Handle, function: HostFunction, data: Bytes) -> i32 {
    call("cuLaunchHostFunc", |driver| {
        launch_host(driver, stream, function, data)
    })
}

/// Reads something of a stream.
fn get<T: Copy>(
    name: &str,
    stream: Handle,
    out: Out<T>,
    value: impl FnOnce(Handle, &Stream) -> T,
) -> i32 {
    call(name, |driver| {
        let stream = driver.stream(stream)?;
        out.put(value(stream, &driver.streams[&stream]))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamGetPriority(stream: Handle, out: Out<i32>) -> i32 {
    get("cuStreamGetPriority", stream, out, |_, s| s.priority)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamGetFlags(stream: Handle, out: Out<u32>) -> i32 {
    get("cuStreamGetFlags", stream, out, |_, s| {
        u32::from(s.non_blocking)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamGetId(stream: Handle, out: Out<u64>) -> i32 {
    get("cuStreamGetId", stream, out, |handle, _| handle as u64)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamGetCtx(stream: Handle, out: Out<Handle>) -> i32 {
    get("cuStreamGetCtx", stream, out, |_, s| s.context)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamGetDevice(stream: Handle, out: Out<i32>) -> i32 {
    get("cuStreamGetDevice", stream, out, |_, _| 0)
}
