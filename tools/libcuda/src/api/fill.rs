//! Fills.

use crate::boundary::In;
use crate::code::{Code, Result, fail};
use crate::driver::{Handle, Session, call};
use crate::work::{Extent, Fill, Op, Pitch};

/// `CUDA_MEMSET_NODE_PARAMS`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FillParameters {
    pub address: u64,
    pub pitch: usize,
    pub value: u32,
    pub element: u32,
    pub width: usize,
    pub height: usize,
}

/// Checks a fill.
fn fill(driver: &Session, call: &'static str, asked: &FillParameters) -> Result<Op> {
    let FillParameters {
        address,
        value,
        width,
        height,
        ..
    } = *asked;
    let element = asked.element as usize;
    if ![1, 2, 4].contains(&element) {
        return fail(
            Code::INVALID_VALUE,
            format!("a value of {element} bytes; 1, 2 and 4 are possible"),
        );
    }
    if !address.is_multiple_of(element as u64) {
        return fail(
            Code::INVALID_VALUE,
            format!("{address:#x} is no multiple of {element}"),
        );
    }
    let row = width.checked_mul(element);
    let pitch = match height {
        1 => row,
        _ => Some(asked.pitch),
    };
    let span = row.zip(pitch).and_then(|(row, pitch)| {
        let extent = Extent {
            width: row,
            height,
            depth: 1,
        };
        extent.span(Pitch {
            row: pitch,
            slice: 0,
        })
    });
    let (Some(pitch), Some(span)) = (pitch, span) else {
        return fail(
            Code::INVALID_VALUE,
            format!("{height} rows of {width} values of {element} bytes"),
        );
    };
    Ok(Op::Fill(Fill {
        call,
        to: driver.device_place(address, span)?,
        value: value.to_le_bytes()[..element].to_vec(),
        pitch,
        width,
        height: if span == 0 { 0 } else { height },
    }))
}

/// A fill as a node of a graph.
pub fn node(driver: &Session, asked: In<FillParameters>) -> Result<Op> {
    fill(driver, "cuGraphLaunch", &asked.get()?)
}

/// A fill of the default stream, or of one that is given.
fn set(name: &'static str, stream: Option<Handle>, asked: FillParameters) -> i32 {
    call(name, |driver| {
        let resolved = driver.stream(stream.unwrap_or(0))?;
        if stream.is_none() {
            driver.forbid_in_capture()?;
        }
        let op = fill(driver, name, &asked)?;
        driver.submit(resolved, op)
    })
}

/// A fill of values side by side.
fn line(address: u64, value: u32, element: u32, count: usize) -> FillParameters {
    FillParameters {
        address,
        pitch: 0,
        value,
        element,
        width: count,
        height: 1,
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8_v2(address: u64, value: u8, count: usize) -> i32 {
    set("cuMemsetD8", None, line(address, value.into(), 1, count))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8Async(address: u64, value: u8, count: usize, stream: Handle) -> i32 {
    set(
        "cuMemsetD8Async",
        Some(stream),
        line(address, value.into(), 1, count),
    )
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD2D8_v2(
    address: u64,
    pitch: usize,
    value: u8,
    width: usize,
    height: usize,
) -> i32 {
    let row = line(address, value.into(), 1, width);
    set(
        "cuMemsetD2D8",
        None,
        FillParameters {
            pitch,
            height,
            ..row
        },
    )
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD2D8Async(
    address: u64,
    pitch: usize,
    value: u8,
    width: usize,
    height: usize,
    stream: Handle,
) -> i32 {
    let row = line(address, value.into(), 1, width);
    set(
        "cuMemsetD2D8Async",
        Some(stream),
        FillParameters {
            pitch,
            height,
            ..row
        },
    )
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD16_v2(address: u64, value: u16, count: usize) -> i32 {
    set("cuMemsetD16", None, line(address, value.into(), 2, count))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD16Async(address: u64, value: u16, count: usize, stream: Handle) -> i32 {
    set(
        "cuMemsetD16Async",
        Some(stream),
        line(address, value.into(), 2, count),
    )
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD2D16_v2(
    address: u64,
    pitch: usize,
    value: u16,
    width: usize,
    height: usize,
) -> i32 {
    let row = line(address, value.into(), 2, width);
    set(
        "cuMemsetD2D16",
        None,
        FillParameters {
            pitch,
            height,
            ..row
        },
    )
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD2D16Async(
    address: u64,
    pitch: usize,
    value: u16,
    width: usize,
    height: usize,
    stream: Handle,
) -> i32 {
    let row = line(address, value.into(), 2, width);
    set(
        "cuMemsetD2D16Async",
        Some(stream),
        FillParameters {
            pitch,
            height,
            ..row
        },
    )
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD32_v2(address: u64, value: u32, count: usize) -> i32 {
    set("cuMemsetD32", None, line(address, value, 4, count))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD32Async(address: u64, value: u32, count: usize, stream: Handle) -> i32 {
    set(
        "cuMemsetD32Async",
        Some(stream),
        line(address, value, 4, count),
    )
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD2D32_v2(
    address: u64,
    pitch: usize,
    value: u32,
    width: usize,
    height: usize,
) -> i32 {
    let row = line(address, value, 4, width);
    set(
        "cuMemsetD2D32",
        None,
        FillParameters {
            pitch,
            height,
            ..row
        },
    )
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD2D32Async(
    address: u64,
    pitch: usize,
    value: u32,
    width: usize,
    height: usize,
    stream: Handle,
) -> i32 {
    let row = line(address, value, 4, width);
    set(
        "cuMemsetD2D32Async",
        Some(stream),
        FillParameters {
            pitch,
            height,
            ..row
        },
    )
}
