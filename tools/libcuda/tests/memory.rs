//! Memory of all kinds: copies and fills, and when they happen.
#![allow(unsafe_code)]

mod common;

use std::ffi::c_void;
use std::ptr::null_mut;

use common::raw::{
    allocate, check, download, end, get, kernel, rescale, start, stream, synchronise,
};
use common::{again, inside, late_and_early as in_driver};
use cudarc::driver::sys::{self, CUresult};

enum Side {
    Host(usize),
    Device(u64),
}

/// A copy of rows: for each side its memory, its pitch and where in a row it begins; then bytes per row, and rows.
fn rows(
    from: (Side, usize, usize),
    to: (Side, usize, usize),
    (width, height): (usize, usize),
) -> sys::CUDA_MEMCPY2D {
    let side = |side| match side {
        Side::Host(address) => (sys::CUmemorytype::CU_MEMORYTYPE_HOST, address, 0),
        Side::Device(address) => (sys::CUmemorytype::CU_MEMORYTYPE_DEVICE, 0, address),
    };
    let (from_kind, from_host, from_device) = side(from.0);
    let (to_kind, to_host, to_device) = side(to.0);
    sys::CUDA_MEMCPY2D {
        srcXInBytes: from.2,
        srcY: 0,
        srcMemoryType: from_kind,
        srcHost: from_host as *const c_void,
        srcDevice: from_device,
        srcArray: null_mut(),
        srcPitch: from.1,
        dstXInBytes: to.2,
        dstY: 0,
        dstMemoryType: to_kind,
        dstHost: to_host as *mut c_void,
        dstDevice: to_device,
        dstArray: null_mut(),
        dstPitch: to.1,
        WidthInBytes: width,
        Height: height,
    }
}

#[test]
fn rows_are_copied_and_filled() {
    if !in_driver("rows_are_copied_and_filled") {
        return;
    }
    let context = start();
    let (width, height) = (3usize, 2usize);
    // SAFETY: places for the answers; the copies stay within the rows that were allocated.
    unsafe {
        let (mut address, mut pitch) = (0, 0);
        check(sys::cuMemAllocPitch_v2(
            &mut address,
            &mut pitch,
            4 * width,
            height,
            4,
        ))
        .expect("memory");
        assert_eq!(pitch, 512);
        check(sys::cuMemsetD2D32_v2(address, pitch, 9, width, height)).expect("a fill");
        let host: Vec<u32> = (0..8).collect();
        let here = Side::Host(host.as_ptr() as usize);
        let there = || Side::Device(address);
        let copy = rows((here, 16, 4), (there(), pitch, 0), (8, height));
        check(sys::cuMemcpy2D_v2(&copy)).expect("a copy");
        let mut back = [0u32; 6];
        let here = Side::Host(back.as_mut_ptr() as usize);
        let copy = rows((there(), pitch, 0), (here, 12, 0), (12, height));
        check(sys::cuMemcpy2DAsync_v2(&copy, null_mut())).expect("a copy");
        assert_eq!(back, [1, 2, 9, 5, 6, 9]);
        check(sys::cuMemsetD16_v2(address, 0x0102, 2)).expect("a fill");
        check(sys::cuMemsetD8Async(address, 3, 1, null_mut())).expect("a fill");
        assert_eq!(download(address, 1).expect("a copy"), [0x0102_0103]);
        check(sys::cuMemFree_v2(address)).expect("freed");
    }
    end(context);
}

#[test]
fn kernels_use_memory_of_the_host() {
    if !in_driver("kernels_use_memory_of_the_host") {
        return;
    }
    let context = start();
    let scale = kernel("rescale");
    let run = |address| {
        rescale(scale, null_mut(), address, 4).expect("a launch");
        synchronise(null_mut()).expect("done");
    };
    // SAFETY: the memory is used as long as it is and no longer.
    unsafe {
        let flags = sys::CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL as u32;
        let managed = get(|a| sys::cuMemAllocManaged(a, 16, flags)).expect("memory");
        let here = managed as *mut f32;
        let pinned: *mut c_void = get(|a| sys::cuMemHostAlloc(a, 16, 0)).expect("memory");
        let mut own = [1.0f32, 2.0, 3.0, 4.0];
        check(sys::cuMemHostRegister_v2(own.as_mut_ptr().cast(), 16, 0)).expect("registered");
        let registered = get(|a| sys::cuMemHostGetDevicePointer_v2(a, own.as_mut_ptr().cast(), 0));
        let registered = registered.expect("an address");
        for (host, device) in [
            (here, managed),
            (pinned.cast(), pinned as u64),
            (own.as_mut_ptr(), registered),
        ] {
            host.copy_from([1.0, 2.0, 3.0, 4.0].as_ptr(), 4);
            run(device);
            let mut now = [0.0; 4];
            now.as_mut_ptr().copy_from(host, 4);
            assert_eq!(now, [2.0, 4.0, 6.0, 8.0]);
            let attribute = sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_HOST_POINTER;
            let known: *mut f32 =
                get(|p: *mut *mut f32| sys::cuPointerGetAttribute(p.cast(), attribute, device))
                    .expect("an address");
            assert_eq!(known, host);
        }
        check(sys::cuMemFree_v2(managed)).expect("freed");
        check(sys::cuMemFreeHost(pinned)).expect("freed");
        check(sys::cuMemHostUnregister(own.as_mut_ptr().cast())).expect("unregistered");
    }
    end(context);
}

/// Pinned memory is read when the stream comes to the copy, pageable memory when the copy is asked for.
#[test]
fn copies_are_as_asynchronous_as_their_memory() {
    if !inside() {
        let test = "copies_are_as_asynchronous_as_their_memory";
        again(test, &[]).succeeded();
        return;
    }
    let context = start();
    let stream = stream();
    let x = allocate(4).expect("memory");
    // SAFETY: the memory is used as long as it is and no longer.
    unsafe {
        let pinned: *mut u32 =
            get(|a: *mut *mut u32| sys::cuMemAllocHost_v2(a.cast(), 4)).expect("memory");
        let mut pageable = 1u32;
        for (place, seen) in [(pinned, 2), (&raw mut pageable, 1)] {
            place.write(1);
            check(sys::cuMemcpyHtoDAsync_v2(x, place.cast(), 4, stream)).expect("work");
            place.write(2);
            synchronise(stream).expect("done");
            assert_eq!(download(x, 1).expect("a copy"), [seen]);
        }
        pinned.write(0);
        check(sys::cuMemcpyDtoHAsync_v2(pinned.cast(), x, 4, stream)).expect("work");
        assert_eq!(pinned.read(), 0);
        assert_eq!(
            check(sys::cuStreamQuery(stream)),
            Err(CUresult::CUDA_ERROR_NOT_READY)
        );
        check(sys::cuStreamQuery(stream)).expect("done, for the query went on with it");
        assert_eq!(pinned.read(), 1);
        check(sys::cuMemcpyDtoHAsync_v2(
            (&raw mut pageable).cast(),
            x,
            4,
            stream,
        ))
        .expect("work");
        assert_eq!(pageable, 1);
        check(sys::cuMemFreeHost(pinned.cast())).expect("freed");
        check(sys::cuMemFree_v2(x)).expect("freed");
    }
    end(context);
}
