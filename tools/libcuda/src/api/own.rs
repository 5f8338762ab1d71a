//! What other libraries of this project may ask for: memory, while a stream runs one of their functions. The names are
//! of this project and in no driver.

use crate::boundary::Bytes;
use crate::code::{Code, fail, failure};
use crate::driver::{call, call_from_callback};
use crate::memory::Place;

/// Copies device memory that a product reads to the host; an error if nobody wrote all of it.
#[unsafe(no_mangle)]
extern "C" fn cuInterpretedRead(to: Bytes, from: u64, bytes: usize) -> i32 {
    call_from_callback("cuInterpretedRead", |driver| {
        let held = match driver.device_place(from, bytes)? {
            Place::Device(address) => {
                let known = driver.device.initialised(address, bytes);
                if driver.settings.checks && !known.unwrap_or(true) {
                    let why = format!(
                        "a product reads bytes that nobody wrote, among {bytes} at {from:#x}"
                    );
                    driver
                        .reports
                        .failure("cublasLtMatmul", Code::LAUNCH_FAILED, &why);
                }
                let mut held = vec![0; bytes];
                let read = driver.device.read(address, &mut held);
                read.map_err(|error| failure(Code::ILLEGAL_ADDRESS, error.to_string()))?;
                held
            }
            Place::Host(memory) => memory.read(0, bytes),
            Place::Held(held) => held,
        };
        to.memory(bytes).write(0, &held);
        Ok(())
    })
}

/// Copies a result to device memory.
#[unsafe(no_mangle)]
extern "C" fn cuInterpretedWrite(to: u64, from: Bytes, bytes: usize) -> i32 {
    call_from_callback("cuInterpretedWrite", |driver| {
        let held = from.memory(bytes).read(0, bytes);
        match driver.device_place(to, bytes)? {
            Place::Device(address) => {
                let wrote = driver.device.write(address, &held);
                wrote.map_err(|error| failure(Code::ILLEGAL_ADDRESS, error.to_string()))
            }
            Place::Host(memory) => {
                memory.write(0, &held);
                Ok(())
            }
            Place::Held(_) => Ok(()),
        }
    })
}

/// Marks the current context as failed, as a kernel that reads where nothing is would.
#[unsafe(no_mangle)]
extern "C" fn cuInterpretedCheck(address: u64, bytes: usize) -> i32 {
    call("cuInterpretedCheck", |driver| {
        driver.healthy()?;
        match bytes {
            0 => fail(Code::INVALID_VALUE, "0 bytes"),
            _ => driver.check(address, bytes),
        }
    })
}
