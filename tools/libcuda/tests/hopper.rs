//! Tensor maps and clusters, as a program of the driver API uses them.
#![allow(unsafe_code)]

mod common;

use std::ffi::c_void;
use std::ptr::null_mut;

use common::raw::{Result, allocate, check, download, end, function, get, load, start, upload};
use common::{again, inside, late_and_early as in_driver};
use cudarc::driver::sys::{self, CUresult};

/// A map of a tensor of 4 rows of 32 numbers, in tiles of 4 rows of 16 numbers.
fn map(address: u64) -> Result<sys::CUtensorMap> {
    let (dims, strides) = ([32u64, 4], [128u64]);
    let (tile, steps) = ([16u32, 4], [1u32, 1]);
    // SAFETY: as many numbers as two dimensions take, and a place for the map.
    get(|map| unsafe {
        sys::cuTensorMapEncodeTiled(
            map,
            sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_UINT32,
            2,
            address as *mut c_void,
            dims.as_ptr(),
            strides.as_ptr(),
            tile.as_ptr(),
            steps.as_ptr(),
            sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_NONE,
            sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_NONE,
            sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    })
}

/// Launches `tile` on two blocks, in clusters of a size.
fn launch(kernel: sys::CUfunction, cluster: u32, out: u64, map: &sys::CUtensorMap) -> Result<()> {
    let mut attribute = sys::CUlaunchAttribute {
        id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
        pad: [0; 4],
        value: sys::CUlaunchAttributeValue { pad: [0; 64] },
    };
    attribute.value.clusterDim.x = cluster;
    attribute.value.clusterDim.y = 1;
    attribute.value.clusterDim.z = 1;
    let config = sys::CUlaunchConfig {
        gridDimX: 2,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: 64,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream: null_mut(),
        attrs: &mut attribute,
        numAttrs: 1,
    };
    let mut arguments: [*mut c_void; 2] = [
        (&raw const out).cast_mut().cast(),
        std::ptr::from_ref(map).cast_mut().cast(),
    ];
    // SAFETY: the arguments are those of the kernel.
    check(unsafe { sys::cuLaunchKernelEx(&config, kernel, arguments.as_mut_ptr(), null_mut()) })
}

#[test]
fn blocks_of_a_cluster_copy_tiles() {
    if !in_driver("blocks_of_a_cluster_copy_tiles") {
        return;
    }
    let context = start();
    let module = load(include_str!("programs/hopper.ptx")).expect("a module");
    let kernel = function(module, "tile").expect("a kernel");
    let tensor: Vec<u32> = (0..128).collect();
    let x = upload(&tensor);
    let out = allocate(4 * 128).expect("memory");
    let map = map(x).expect("a map");
    for cluster in [1, 2] {
        launch(kernel, cluster, out, &map).expect("a launch");
        let want = |block: u32, row: u32, col: u32| 32 * row + 16 * block + col + 1000 * cluster;
        let all = (0..2).flat_map(|b| (0..4).flat_map(move |r| (0..16).map(move |c| (b, r, c))));
        let want: Vec<u32> = all.map(|(b, r, c)| want(b, r, c)).collect();
        assert_eq!(download(out, 128), Ok(want));
    }
    for address in [x, out] {
        // SAFETY: memory that was allocated.
        check(unsafe { sys::cuMemFree_v2(address) }).expect("freed");
    }
    end(context);
}

#[test]
fn maps_and_clusters_that_a_driver_refuses() {
    let test = "maps_and_clusters_that_a_driver_refuses";
    if !inside() {
        again(test, &[])
            .succeeded()
            .says("cuTensorMapEncodeTiled: ")
            .says("is no multiple of 16")
            .says("tile: clusters of [3, 1, 1] blocks in a grid of [2, 1, 1]");
        return;
    }
    start();
    let x = upload(&[0; 128]);
    assert_eq!(map(x + 4), Err(CUresult::CUDA_ERROR_INVALID_VALUE));
    let module = load(include_str!("programs/hopper.ptx")).expect("a module");
    let kernel = function(module, "tile").expect("a kernel");
    let map = map(x).expect("a map");
    let refused = launch(kernel, 3, x, &map);
    assert_eq!(refused, Err(CUresult::CUDA_ERROR_INVALID_CLUSTER_SIZE));
}
