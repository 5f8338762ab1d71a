//! Start, version, errors, profiler.

use std::ffi::c_char;

use crate::boundary::{Out, Text, when_program_ends};
use crate::code::{Code, fail};
use crate::driver::{at_exit, call, initialise, plain};

/// The newest CUDA there is, 13.5, so that no program finds this driver too old.
pub const VERSION: i32 = 13050;

#[unsafe(no_mangle)]
extern "C" fn cuInit(flags: u32) -> i32 {
    plain("cuInit", || {
        if flags != 0 {
            return fail(Code::INVALID_VALUE, "flags must be 0");
        }
        static ONCE: std::sync::Once = std::sync::Once::new();
        initialise()?;
        ONCE.call_once(|| when_program_ends(report_leaks));
        Ok(())
    })
}

extern "C" fn report_leaks() {
    plain("end of the program", || {
        at_exit(|driver| {
            if let Some(leaks) = driver.leaks(|_| true) {
                driver.reports.note("end of the program", &leaks);
            }
        });
        Ok(())
    });
}

#[unsafe(no_mangle)]
extern "C" fn cuDriverGetVersion(version: Out<i32>) -> i32 {
    plain("cuDriverGetVersion", || version.put(VERSION))
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorName(error: i32, name: Out<*const c_char>) -> i32 {
    plain("cuGetErrorName", || match Code(error).texts() {
        Some((text, _)) => name.put(text.as_ptr()),
        None => {
            name.put(std::ptr::null())?;
            Err(Code::INVALID_VALUE.into())
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorString(error: i32, text: Out<*const c_char>) -> i32 {
    plain("cuGetErrorString", || match Code(error).texts() {
        Some((_, known)) => text.put(known.as_ptr()),
        None => {
            text.put(std::ptr::null())?;
            Err(Code::INVALID_VALUE.into())
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuProfilerInitialize(_config: Text, _output: Text, _mode: i32) -> i32 {
    call("cuProfilerInitialize", |_| Ok(()))
}

#[unsafe(no_mangle)]
extern "C" fn cuProfilerStart() -> i32 {
    call("cuProfilerStart", |_| Ok(()))
}

#[unsafe(no_mangle)]
extern "C" fn cuProfilerStop() -> i32 {
    call("cuProfilerStop", |_| Ok(()))
}
