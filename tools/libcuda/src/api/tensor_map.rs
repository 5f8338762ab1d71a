//! Tensor maps: the 128 bytes that bulk tensor copies are given. Their layout is the interpreter's own.

use ptx::{Element, Swizzle, TensorMap, Tiling};

use crate::boundary::{In, Out};
use crate::code::{Code, fail, failure};
use crate::driver::call;

/// Numbers of the driver that mean "none" and "NaN".
const NO_INTERLEAVE: u32 = 0;
const NAN_FILL: u32 = 1;

#[unsafe(no_mangle)]
extern "C" fn cuTensorMapEncodeTiled(
    map: Out<[u8; 128]>,
    element: u32,
    rank: u32,
    address: u64,
    dims: In<u64>,
    strides: In<u64>,
    tile: In<u32>,
    element_strides: In<u32>,
    interleave: u32,
    swizzle: u32,
    _promotion: u32,
    fill: u32,
) -> i32 {
    call("cuTensorMapEncodeTiled", |driver| {
        if driver.settings.chip.capability.0 < 9 {
            return fail(
                Code::NOT_SUPPORTED,
                format!("{} has no tensor maps", driver.settings.chip.name),
            );
        }
        if interleave != NO_INTERLEAVE {
            return fail(
                Code::NOT_SUPPORTED,
                "interleaved layouts are not interpreted",
            );
        }
        if rank == 0 || rank > 5 {
            return fail(
                Code::INVALID_VALUE,
                format!("{rank} dimensions; there are 1 to 5"),
            );
        }
        let Some(element) = Element::from_driver(element) else {
            return fail(
                Code::NOT_SUPPORTED,
                format!("element type {element} is not interpreted"),
            );
        };
        let Some(swizzle) = Swizzle::from_driver(swizzle) else {
            return fail(
                Code::NOT_SUPPORTED,
                format!("swizzle {swizzle} is not interpreted"),
            );
        };
        let rank = rank as usize;
        let tiling = Tiling {
            element,
            address,
            dims: &dims.list(rank)?,
            strides: &strides.list(rank - 1)?,
            tile: &tile.list(rank)?,
            element_strides: &element_strides.list(rank)?,
            swizzle,
            nan_fill: fill == NAN_FILL,
        };
        let encoded = TensorMap::encode_tiled(&tiling);
        let encoded = encoded.map_err(|error| failure(Code::INVALID_VALUE, error.to_string()))?;
        map.put(encoded.bytes())
    })
}
