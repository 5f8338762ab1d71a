//! Copies.
//!
//! When a call returns follows the rules of the driver: what the program gives in pageable memory is read before the call
//! returns; what it receives in pageable memory is there when the call returns; pinned memory is read and written when
//! the stream comes to it; calls without `Async` use the default stream and wait for it.

use crate::boundary::{Bytes, In, bytes_at};
use crate::code::{Code, Result, fail};
use crate::driver::{Handle, Session, call};
use crate::memory::Place;
use crate::work::{Copy, Extent, Op, Pitch};

/// Memory types (`CUmemorytype`).
const HOST: i32 = 1;
const DEVICE: i32 = 2;
const UNIFIED: i32 = 4;

/// One side of `CUDA_MEMCPY2D`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Side2D {
    x: usize,
    y: usize,
    kind: i32,
    host: usize,
    device: u64,
    array: usize,
    pitch: usize,
}

/// `CUDA_MEMCPY2D`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Copy2D {
    from: Side2D,
    to: Side2D,
    width: usize,
    height: usize,
}

/// One side of `CUDA_MEMCPY3D`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Side3D {
    x: usize,
    y: usize,
    z: usize,
    level: usize,
    kind: i32,
    host: usize,
    device: u64,
    array: usize,
    reserved: usize,
    pitch: usize,
    height: usize,
}

/// `CUDA_MEMCPY3D`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Copy3D {
    from: Side3D,
    to: Side3D,
    width: usize,
    height: usize,
    depth: usize,
}

impl Copy2D {
    fn with_depth(self) -> Copy3D {
        let side = |side: Side2D| Side3D {
            x: side.x,
            y: side.y,
            z: 0,
            level: 0,
            kind: side.kind,
            host: side.host,
            device: side.device,
            array: side.array,
            reserved: 0,
            pitch: side.pitch,
            height: 0,
        };
        Copy3D {
            from: side(self.from),
            to: side(self.to),
            width: self.width,
            height: self.height,
            depth: 1,
        }
    }
}

fn side(driver: &Session, side: &Side3D, extent: Extent) -> Result<(Place, Pitch)> {
    let row = match side.pitch {
        0 => extent.width,
        pitch => pitch,
    };
    let rows = match side.height {
        0 => extent.height,
        rows => rows,
    };
    let far = || format!("rows of {} bytes lie {row} bytes apart", extent.width);
    if extent.height > 1 && row < extent.width {
        return fail(Code::INVALID_VALUE, far());
    }
    let Some(slice) = row.checked_mul(rows) else {
        return fail(Code::INVALID_VALUE, far());
    };
    let pitch = Pitch { row, slice };
    let offset = side
        .z
        .checked_mul(slice)
        .and_then(|at| at.checked_add(side.y.checked_mul(row)?))
        .and_then(|at| at.checked_add(side.x));
    let (Some(offset), Some(span)) = (offset, extent.span(pitch)) else {
        return fail(Code::INVALID_VALUE, far());
    };
    let (on_device, address) = match side.kind {
        HOST => (false, side.host as u64),
        DEVICE => (true, side.device),
        UNIFIED => (false, side.device),
        other => {
            return fail(
                Code::NOT_SUPPORTED,
                format!("memory type {other}; host, device and unified are served, arrays are not"),
            );
        }
    };
    let address = address.wrapping_add(offset as u64);
    let place = match on_device {
        true => driver.device_place(address, span)?,
        // addresses are unified: what is given as the host's may be the device's
        false => driver.place(bytes_at(address).memory(span))?,
    };
    Ok((place, pitch))
}

/// Checks a copy.
fn whole(driver: &Session, call: &'static str, copy: &Copy3D) -> Result<Copy> {
    let extent = Extent {
        width: copy.width,
        height: copy.height,
        depth: copy.depth,
    };
    let (from, from_pitch) = side(driver, &copy.from, extent)?;
    let (to, to_pitch) = side(driver, &copy.to, extent)?;
    Ok(Copy {
        call,
        from,
        from_pitch,
        to,
        to_pitch,
        extent,
    })
}

/// A copy as a node of a graph, which reads and writes pageable memory when it runs.
pub fn node(driver: &Session, copy: &Copy3D) -> Result<Op> {
    Ok(Op::Copy(whole(driver, "cuGraphLaunch", copy)?))
}

/// Reads what is pageable, and says whether the call waits for the copy.
fn stage(driver: &Session, mut copy: Copy) -> (Copy, bool) {
    let pageable =
        |place: &Place| matches!(place, Place::Host(memory) if !driver.is_pinned(*memory));
    let waits = pageable(&copy.to);
    if let Place::Host(memory) = copy.from
        && pageable(&copy.from)
    {
        copy.from = Place::Held(memory.read(0, memory.bytes()));
    }
    (copy, waits)
}

/// A line of bytes as the general copy.
fn line(to: (i32, u64), from: (i32, u64), bytes: usize) -> Copy3D {
    let side = |(kind, address): (i32, u64)| Side3D {
        x: 0,
        y: 0,
        z: 0,
        level: 0,
        kind,
        host: address as usize,
        device: address,
        array: 0,
        reserved: 0,
        pitch: 0,
        height: 0,
    };
    Copy3D {
        from: side(from),
        to: side(to),
        width: bytes,
        height: 1,
        depth: 1,
    }
}

/// A copy that is complete when the call returns.
fn now(name: &'static str, copy: impl FnOnce() -> Result<Copy3D>) -> i32 {
    call(name, |driver| {
        let stream = driver.stream(0)?;
        driver.forbid_in_capture()?;
        let (copy, _) = stage(driver, whole(driver, name, &copy()?)?);
        if copy.extent.bytes() == 0 {
            return Ok(());
        }
        let inside = matches!((&copy.from, &copy.to), (Place::Device(_), Place::Device(_)));
        driver.submit(stream, Op::Copy(copy))?;
        match inside {
            // the program sees nothing of it before it waits for something else
            true => Ok(()),
            false => driver.finish_stream(stream),
        }
    })
}

/// A copy that a stream does.
fn later(name: &'static str, stream: Handle, copy: impl FnOnce() -> Result<Copy3D>) -> i32 {
    call(name, |driver| {
        let stream = driver.stream(stream)?;
        let copy = copy()?;
        if driver.streams[&stream].capturing.is_some() {
            let op = node(driver, &copy)?;
            return driver.submit(stream, op);
        }
        let (copy, waits) = stage(driver, whole(driver, name, &copy)?);
        if copy.extent.bytes() == 0 {
            return Ok(());
        }
        driver.submit(stream, Op::Copy(copy))?;
        match waits {
            true => driver.finish_stream(stream),
            false => Ok(()),
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpy(to: u64, from: u64, bytes: usize) -> i32 {
    now("cuMemcpy", || {
        Ok(line((UNIFIED, to), (UNIFIED, from), bytes))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyAsync(to: u64, from: u64, bytes: usize, stream: Handle) -> i32 {
    later("cuMemcpyAsync", stream, || {
        Ok(line((UNIFIED, to), (UNIFIED, from), bytes))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoD_v2(to: u64, from: Bytes, bytes: usize) -> i32 {
    now("cuMemcpyHtoD", || {
        Ok(line((DEVICE, to), (HOST, from.address() as u64), bytes))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: Bytes, bytes: usize, stream: Handle) -> i32 {
    later("cuMemcpyHtoDAsync", stream, || {
        Ok(line((DEVICE, to), (HOST, from.address() as u64), bytes))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoH_v2(to: Bytes, from: u64, bytes: usize) -> i32 {
    now("cuMemcpyDtoH", || {
        Ok(line((HOST, to.address() as u64), (DEVICE, from), bytes))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoHAsync_v2(to: Bytes, from: u64, bytes: usize, stream: Handle) -> i32 {
    later("cuMemcpyDtoHAsync", stream, || {
        Ok(line((HOST, to.address() as u64), (DEVICE, from), bytes))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) -> i32 {
    now("cuMemcpyDtoD", || {
        Ok(line((DEVICE, to), (DEVICE, from), bytes))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) -> i32 {
    later("cuMemcpyDtoDAsync", stream, || {
        Ok(line((DEVICE, to), (DEVICE, from), bytes))
    })
}

/// All contexts share the one device, so a copy between two is a copy.
#[unsafe(no_mangle)]
extern "C" fn cuMemcpyPeer(
    to: u64,
    _to_context: Handle,
    from: u64,
    _from_context: Handle,
    bytes: usize,
) -> i32 {
    now("cuMemcpyPeer", || {
        Ok(line((DEVICE, to), (DEVICE, from), bytes))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyPeerAsync(
    to: u64,
    _to_context: Handle,
    from: u64,
    _from_context: Handle,
    bytes: usize,
    stream: Handle,
) -> i32 {
    later("cuMemcpyPeerAsync", stream, || {
        Ok(line((DEVICE, to), (DEVICE, from), bytes))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpy2D_v2(copy: In<Copy2D>) -> i32 {
    now("cuMemcpy2D", || Ok(copy.get()?.with_depth()))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpy2DUnaligned_v2(copy: In<Copy2D>) -> i32 {
    now("cuMemcpy2DUnaligned", || Ok(copy.get()?.with_depth()))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpy2DAsync_v2(copy: In<Copy2D>, stream: Handle) -> i32 {
    later("cuMemcpy2DAsync", stream, || Ok(copy.get()?.with_depth()))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpy3D_v2(copy: In<Copy3D>) -> i32 {
    now("cuMemcpy3D", || copy.get())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpy3DAsync_v2(copy: In<Copy3D>, stream: Handle) -> i32 {
    later("cuMemcpy3DAsync", stream, || copy.get())
}
