//! Tensor maps: how a tensor lies in global memory and which tiles of it are copied.
//!
//! The 128 bytes are opaque to kernels, and their layout is this crate's own: all zeros is a map without a tile, and
//! `tensormap.replace` sets one field after another.

use crate::error::{Error, Result};

/// Bytes of a tensor map.
pub(crate) const BYTES: usize = 128;

/// Element type of a tensor map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// One byte, fp8 included.
    U8,
    /// Two bytes.
    U16,
    /// Four bytes.
    U32,
    /// Four bytes, signed.
    S32,
    /// Eight bytes.
    U64,
    /// Eight bytes, signed.
    S64,
    /// IEEE half precision.
    F16,
    /// Single precision.
    F32,
    /// Single precision; reductions flush subnormal numbers.
    F32Flushed,
    /// Double precision.
    F64,
    /// bfloat16
    BF16,
    /// Single precision that matrix products read as tf32.
    TF32,
    /// The same, with subnormal numbers flushed.
    TF32Flushed,
}

/// In the order of the numbers that `tensormap.replace` uses.
const ELEMENTS: [Element; 13] = [
    Element::U8,
    Element::U16,
    Element::U32,
    Element::S32,
    Element::U64,
    Element::S64,
    Element::F16,
    Element::F32,
    Element::F32Flushed,
    Element::F64,
    Element::BF16,
    Element::TF32,
    Element::TF32Flushed,
];

impl Element {
    /// From a `CUtensorMapDataType` of the driver, whose order differs from that of PTX.
    pub fn from_driver(number: u32) -> Option<Element> {
        let at = match number {
            8 => 9,
            9 => 10,
            10 => 8,
            other => other as usize,
        };
        ELEMENTS.get(at).copied()
    }

    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Element::U8 => 1,
            Element::U16 | Element::F16 | Element::BF16 => 2,
            Element::U64 | Element::S64 | Element::F64 => 8,
            _ => 4,
        }
    }
}

/// How the 16-byte pieces of a tile are spread in shared memory, so that columns are read without bank conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Swizzle {
    /// As they come.
    #[default]
    None,
    /// Within 32 bytes: bit 4 of the address is flipped with bit 7.
    B32,
    /// Within 64 bytes: bits 4 and 5 with bits 7 and 8.
    B64,
    /// Within 128 bytes: bits 4 to 6 with bits 7 to 9.
    B128,
}

impl Swizzle {
    /// From a `CUtensorMapSwizzle` of the driver, or the number `tensormap.replace` uses.
    pub fn from_driver(number: u32) -> Option<Swizzle> {
        let all = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];
        all.get(number as usize).copied()
    }

    /// Bytes within which pieces are spread; 16 where they are not.
    pub(crate) fn span(self) -> usize {
        16 << self as usize
    }

    /// Where the byte of an address really lies; `base` is the number of the pattern's first row, of 128 bytes.
    #[inline(always)]
    pub(crate) fn place(self, address: usize, base: usize) -> usize {
        let rows = (1 << self as usize) - 1;
        address ^ ((((address >> 7) + 8 - base) & rows) << 4)
    }
}

/// A tensor and its tiles, the fastest dimension first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling<'t> {
    /// Element type.
    pub element: Element,
    /// Address of the first element.
    pub address: u64,
    /// Elements in each of 1 to 5 dimensions.
    pub dims: &'t [u64],
    /// Bytes from one index to the next in each dimension but the first.
    pub strides: &'t [u64],
    /// Elements of a tile in each dimension, at most 256.
    pub tile: &'t [u32],
    /// Every how many elements one is taken, 1 to 8; the first dimension takes all.
    pub element_strides: &'t [u32],
    /// Layout of the tile in shared memory.
    pub swizzle: Swizzle,
    /// Elements outside of the tensor are read as NaN instead of zero.
    pub nan_fill: bool,
}

/// A tensor map as a kernel gets it: an argument of 128 bytes, or bytes in global memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorMap {
    pub(crate) element: Element,
    pub(crate) rank: usize,
    pub(crate) address: u64,
    pub(crate) dims: [u32; 5],
    pub(crate) strides: [u64; 4],
    pub(crate) tile: [u32; 5],
    pub(crate) element_strides: [u32; 5],
    pub(crate) swizzle: Swizzle,
    pub(crate) nan_fill: bool,
}

/// A field that `tensormap.replace` sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    pub offset: usize,
    pub bytes: usize,
}

impl Field {
    /// A field by its name in PTX and its dimension, where it has one.
    pub fn named(name: &str, dimension: usize) -> Option<Field> {
        let (offset, bytes, count) = match name {
            "global_address" => (0, 8, 1),
            "rank" => (8, 1, 1),
            "elemtype" => (9, 1, 1),
            "interleave_layout" => (10, 1, 1),
            "swizzle_mode" => (11, 1, 1),
            "fill_mode" => (12, 1, 1),
            "swizzle_atomicity" => (13, 1, 1),
            "box_dim" => (16, 4, 5),
            "element_stride" => (36, 4, 5),
            "global_dim" => (56, 4, 5),
            "global_stride" => (80, 8, 4),
            _ => return None,
        };
        (dimension < count).then_some(Field {
            offset: offset + dimension * bytes,
            bytes,
        })
    }

    fn set(name: &str, dimension: usize, value: u64, bytes: &mut [u8; BYTES]) {
        if let Some(field) = Field::named(name, dimension) {
            bytes[field.offset..field.offset + field.bytes]
                .copy_from_slice(&value.to_le_bytes()[..field.bytes]);
        }
    }

    fn get(name: &str, dimension: usize, bytes: &[u8; BYTES]) -> u64 {
        let mut value = [0; 8];
        if let Some(field) = Field::named(name, dimension) {
            value[..field.bytes].copy_from_slice(&bytes[field.offset..field.offset + field.bytes]);
        }
        u64::from_le_bytes(value)
    }
}

impl TensorMap {
    /// The map that `cuTensorMapEncodeTiled` makes, without interleaving.
    ///
    /// # Errors
    /// The driver would refuse it; the message says which rule is broken.
    pub fn encode_tiled(tiling: &Tiling) -> Result<TensorMap> {
        let rank = tiling.dims.len();
        let error = |message: String| Err(Error::TensorMap { message });
        if !(1..=5).contains(&rank)
            || tiling.strides.len() != rank - 1
            || tiling.tile.len() != rank
            || tiling.element_strides.len() != rank
        {
            return error(format!(
                "{rank} dimensions, {} strides, {} sizes of the tile, {} element strides; there are 1 to 5 dimensions, and as many of each, of strides one less",
                tiling.strides.len(),
                tiling.tile.len(),
                tiling.element_strides.len()
            ));
        }
        let mut map = TensorMap {
            element: tiling.element,
            rank,
            address: tiling.address,
            dims: [1; 5],
            strides: [0; 4],
            tile: [1; 5],
            element_strides: [1; 5],
            swizzle: tiling.swizzle,
            nan_fill: tiling.nan_fill,
        };
        for (axis, dim) in tiling.dims.iter().enumerate() {
            match u32::try_from(*dim) {
                Ok(dim) if dim > 0 => map.dims[axis] = dim,
                _ => {
                    return error(format!(
                        "{dim} elements in dimension {axis}; at least 1, less than 2^32"
                    ));
                }
            }
        }
        map.strides[..rank - 1].copy_from_slice(tiling.strides);
        map.tile[..rank].copy_from_slice(tiling.tile);
        map.element_strides[..rank].copy_from_slice(tiling.element_strides);
        match map.broken_rule() {
            Some(message) => error(message),
            None => Ok(map),
        }
    }

    /// The rule of tiled maps that this one breaks.
    pub(crate) fn broken_rule(&self) -> Option<String> {
        let rank = self.rank;
        let inner = self.tile[0] as usize * self.element.bytes();
        if !self.address.is_multiple_of(16) {
            return Some(format!(
                "the address {:#x} of the tensor is no multiple of 16",
                self.address
            ));
        }
        if let Some(stride) = self.strides[..rank - 1]
            .iter()
            .find(|s| **s % 16 != 0 || **s >= 1 << 40)
        {
            return Some(format!(
                "a stride of {stride} bytes; strides are multiples of 16 below 2^40"
            ));
        }
        if let Some(size) = self.tile[..rank].iter().find(|n| !(1..=256).contains(*n)) {
            return Some(format!(
                "a tile of {size} elements in a dimension; there are 1 to 256"
            ));
        }
        if let Some(stride) = self.element_strides[..rank]
            .iter()
            .find(|n| !(1..=8).contains(*n))
        {
            return Some(format!("an element stride of {stride}; there are 1 to 8"));
        }
        if !inner.is_multiple_of(16) {
            return Some(format!(
                "rows of a tile have {inner} bytes, which is no multiple of 16"
            ));
        }
        if self.swizzle != Swizzle::None && inner > self.swizzle.span() {
            return Some(format!(
                "rows of a tile have {inner} bytes; this swizzle allows {}",
                self.swizzle.span()
            ));
        }
        None
    }

    /// The 128 bytes of the map.
    pub fn bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let element = ELEMENTS.iter().position(|e| *e == self.element);
        Field::set("global_address", 0, self.address, &mut bytes);
        Field::set("rank", 0, self.rank as u64 - 1, &mut bytes);
        Field::set("elemtype", 0, element.unwrap_or(0) as u64, &mut bytes);
        Field::set("swizzle_mode", 0, self.swizzle as u64, &mut bytes);
        Field::set("fill_mode", 0, u64::from(self.nan_fill), &mut bytes);
        for axis in 0..5 {
            Field::set("box_dim", axis, self.tile[axis].into(), &mut bytes);
            Field::set(
                "element_stride",
                axis,
                self.element_strides[axis].into(),
                &mut bytes,
            );
            Field::set("global_dim", axis, self.dims[axis].into(), &mut bytes);
        }
        for axis in 0..4 {
            Field::set("global_stride", axis, self.strides[axis], &mut bytes);
        }
        bytes
    }

    /// Reads a map; the message of what is wrong with it otherwise.
    pub(crate) fn decode(bytes: &[u8; BYTES]) -> std::result::Result<TensorMap, String> {
        let number = |name| Field::get(name, 0, bytes);
        let Some(element) = ELEMENTS.get(number("elemtype") as usize) else {
            return Err(format!(
                "the element type {} is not known",
                number("elemtype")
            ));
        };
        let Some(swizzle) = Swizzle::from_driver(number("swizzle_mode") as u32) else {
            return Err(format!(
                "the swizzle {} is not known",
                number("swizzle_mode")
            ));
        };
        if number("interleave_layout") != 0 {
            return Err("interleaved layouts are not known".into());
        }
        if number("swizzle_atomicity") != 0 {
            return Err("swizzles of pieces other than 16 bytes are not known".into());
        }
        let words = |name| std::array::from_fn(|axis| Field::get(name, axis, bytes) as u32);
        let map = TensorMap {
            element: *element,
            rank: (number("rank") as usize).min(4) + 1,
            address: number("global_address"),
            dims: words("global_dim"),
            strides: std::array::from_fn(|axis| Field::get("global_stride", axis, bytes)),
            tile: words("box_dim"),
            element_strides: words("element_stride"),
            swizzle,
            nan_fill: number("fill_mode") != 0,
        };
        match map.broken_rule() {
            Some(message) => Err(message),
            None => Ok(map),
        }
    }

    /// Bytes of a tile's row, and from one row to the next in shared memory.
    pub(crate) fn row(&self) -> (usize, usize) {
        let bytes = self.tile[0] as usize * self.element.bytes();
        let pitch = if self.swizzle == Swizzle::None {
            bytes
        } else {
            self.swizzle.span()
        };
        (bytes, pitch)
    }

    /// Rows of a tile in each dimension but the first.
    fn extents(&self) -> [usize; 4] {
        std::array::from_fn(|i| {
            if i + 1 < self.rank {
                self.tile[i + 1].div_ceil(self.element_strides[i + 1]) as usize
            } else {
                1
            }
        })
    }

    /// Rows of a tile.
    pub(crate) fn rows(&self) -> usize {
        self.extents().iter().product()
    }

    /// The part of row `row` of the tile at `at` that lies in the tensor: its address, first byte in the row, length.
    pub(crate) fn part(&self, at: &[i32], mut row: usize) -> Option<(u64, usize, usize)> {
        let mut address = self.address;
        for (i, extent) in self.extents().iter().enumerate().take(self.rank - 1) {
            let axis = i + 1;
            let index =
                i64::from(at[axis]) + (row % extent) as i64 * i64::from(self.element_strides[axis]);
            row /= extent;
            if index < 0 || index >= i64::from(self.dims[axis]) {
                return None;
            }
            address = address.wrapping_add((index as u64).wrapping_mul(self.strides[i]));
        }
        let first = i64::from(at[0]).max(0);
        let end = (i64::from(at[0]) + i64::from(self.tile[0])).min(i64::from(self.dims[0]));
        let bytes = self.element.bytes();
        (first < end).then(|| {
            (
                address.wrapping_add(first as u64 * bytes as u64),
                (first - i64::from(at[0])) as usize * bytes,
                (end - first) as usize * bytes,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Element, Swizzle, TensorMap, Tiling};

    fn tiling() -> Tiling<'static> {
        Tiling {
            element: Element::BF16,
            address: 4096,
            dims: &[100, 7],
            strides: &[256],
            tile: &[64, 8],
            element_strides: &[1, 1],
            swizzle: Swizzle::B128,
            nan_fill: false,
        }
    }

    #[test]
    fn bytes_hold_the_map() {
        let map = TensorMap::encode_tiled(&tiling()).expect("a valid map");
        assert_eq!(TensorMap::decode(&map.bytes()), Ok(map));
    }

    #[test]
    fn parts_of_rows_lie_inside_of_the_tensor() {
        let map = TensorMap::encode_tiled(&tiling()).expect("a valid map");
        assert_eq!(map.part(&[64, 2], 3), Some((4096 + 5 * 256 + 128, 0, 72)));
        assert_eq!(map.part(&[-10, 0], 0), Some((4096, 20, 108)));
        assert_eq!(map.part(&[0, 0], 7), None);
        assert_eq!(map.part(&[128, 0], 0), None);
    }

    #[test]
    fn broken_rules_are_named() {
        let refused = |tiling: Tiling| TensorMap::encode_tiled(&tiling).is_err();
        assert!(refused(Tiling {
            strides: &[250],
            ..tiling()
        }));
        assert!(refused(Tiling {
            tile: &[128, 8],
            ..tiling()
        }));
        assert!(refused(Tiling {
            tile: &[64, 257],
            ..tiling()
        }));
        assert!(refused(Tiling {
            address: 8,
            ..tiling()
        }));
        assert!(refused(Tiling {
            dims: &[100],
            ..tiling()
        }));
    }

    #[test]
    fn swizzles_spread_pieces() {
        assert_eq!(Swizzle::B128.place(0x3f0, 0), 0x380);
        assert_eq!(Swizzle::B64.place(0x190, 0), 0x1a0);
        assert_eq!(Swizzle::B32.place(0x80, 0), 0x90);
        assert_eq!(Swizzle::None.place(0x3f0, 0), 0x3f0);
    }
}
