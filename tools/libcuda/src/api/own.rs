//! What other libraries of this project may ask for: memory, while a stream runs one of their functions. The names are
//! of this project and in no driver.

use crate::boundary::Bytes;
use crate::code::{Code, Result, fail, failure};
use crate::driver::{Session, call, call_from_callback};
use crate::memory::Place;

/// Does something with memory; without it the context of the memory fails, as if a kernel had used it.
fn access<T>(
    driver: &mut Session,
    address: u64,
    bytes: usize,
    body: impl FnOnce(&mut Session, Place) -> Result<T>,
) -> Result<T> {
    let place = driver.device_place(address, bytes);
    let done = place.and_then(|place| body(driver, place));
    if let Err(failure) = &done
        && let Some((_, block)) = driver.memory.find(address)
    {
        let context = block.context;
        driver.fail_context(context, failure.code);
    }
    done
}

/// Copies device memory that a product reads to the host; an error if nobody wrote all of it.
#[unsafe(no_mangle)]
extern "C" fn cuInterpretedRead(to: Bytes, from: u64, bytes: usize) -> i32 {
    call_from_callback("cublasLtMatmul", |driver| {
        let held = access(driver, from, bytes, |driver, place| match place {
            Place::Device(address) => {
                let illegal = |error: ptx::Error| failure(Code::ILLEGAL_ADDRESS, error.to_string());
                let known = driver.device.initialised(address, bytes).map_err(illegal)?;
                if driver.settings.checks && !known {
                    return fail(
                        Code::LAUNCH_FAILED,
                        format!(
                            "a product reads bytes that nobody wrote, among {bytes} at {from:#x}"
                        ),
                    );
                }
                let mut held = vec![0; bytes];
                driver.device.read(address, &mut held).map_err(illegal)?;
                Ok(held)
            }
            Place::Host(memory) => Ok(memory.read(0, bytes)),
            Place::Held(held) => Ok(held),
        })?;
        to.memory(bytes).write(0, &held);
        Ok(())
    })
}

/// Copies a result to device memory.
#[unsafe(no_mangle)]
extern "C" fn cuInterpretedWrite(to: u64, from: Bytes, bytes: usize) -> i32 {
    call_from_callback("cublasLtMatmul", |driver| {
        let held = from.memory(bytes).read(0, bytes);
        access(driver, to, bytes, |driver, place| match place {
            Place::Device(address) => {
                let wrote = driver.device.write(address, &held);
                wrote.map_err(|error| failure(Code::ILLEGAL_ADDRESS, error.to_string()))
            }
            Place::Host(memory) => {
                memory.write(0, &held);
                Ok(())
            }
            Place::Held(_) => Ok(()),
        })
    })
}

/// Fails unless bytes lie in live memory.
#[unsafe(no_mangle)]
extern "C" fn cuInterpretedCheck(address: u64, bytes: usize) -> i32 {
    call("cublasLtMatmul", |driver| {
        driver.healthy()?;
        driver.check(address, bytes)
    })
}
