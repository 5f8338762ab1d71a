//! Events.

use crate::boundary::Out;
use crate::code::{Code, fail};
use crate::driver::{Handle, call};
use crate::event::Event;

/// Flags: yield while waiting, no time, for other processes.
const ALL_FLAGS: u32 = 7;
const NO_TIME: u32 = 2;

#[unsafe(no_mangle)]
extern "C" fn cuEventCreate(out: Out<Handle>, flags: u32) -> i32 {
    call("cuEventCreate", |driver| {
        let context = driver.healthy()?;
        if flags & !ALL_FLAGS != 0 {
            return fail(Code::INVALID_VALUE, format!("no event flags {flags:#x}"));
        }
        let handle = driver.new_handle();
        out.put(handle)?;
        let event = Event::new(context, flags & NO_TIME == 0);
        driver.events.insert(handle, event);
        Ok(())
    })
}

fn destroy(event: Handle) -> i32 {
    call("cuEventDestroy", |driver| {
        driver.event(event)?;
        driver.events.remove(&event);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventDestroy(event: Handle) -> i32 {
    destroy(event)
}

#[unsafe(no_mangle)]
extern "C" fn cuEventDestroy_v2(event: Handle) -> i32 {
    destroy(event)
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecord(event: Handle, stream: Handle) -> i32 {
    call("cuEventRecord", |driver| {
        let stream = driver.stream(stream)?;
        driver.record(event, stream)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecordWithFlags(event: Handle, stream: Handle, flags: u32) -> i32 {
    call("cuEventRecordWithFlags", |driver| {
        let stream = driver.stream(stream)?;
        if flags != 0 && driver.streams[&stream].capturing.is_some() {
            return fail(
                Code::NOT_SUPPORTED,
                "external events in captures are not served",
            );
        }
        driver.record(event, stream)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventSynchronize(event: Handle) -> i32 {
    call("cuEventSynchronize", |driver| driver.finish_event(event))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventQuery(event: Handle) -> i32 {
    call("cuEventQuery", |driver| {
        match driver.query_event(event)? {
            true => Ok(()),
            false => Err(Code::NOT_READY.into()),
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventElapsedTime(milliseconds: Out<f32>, start: Handle, end: Handle) -> i32 {
    call("cuEventElapsedTime", |driver| {
        milliseconds.put(driver.elapsed(start, end)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle, end: Handle) -> i32 {
    call("cuEventElapsedTime", |driver| {
        milliseconds.put(driver.elapsed(start, end)?)
    })
}
