//! Matrix descriptors: where a factor in shared memory lies, as in the PTX manual, "Matrix Descriptor Format" and
//! "Strides". Memory is read in pieces of 16 bytes.

use crate::tensor_map::Swizzle;

/// Where the 16-byte pieces of a factor lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    start: usize,
    /// Bytes between groups of 8 rows, or of pieces, in the two directions.
    leading: usize,
    stride: usize,
    base: usize,
    swizzle: Swizzle,
    /// Elements of a piece lie along the rows (a) or columns (b), not along k.
    pub transposed: bool,
}

impl Layout {
    pub fn new(descriptor: u64, transposed: bool) -> Self {
        let field = |shift: u32| (descriptor >> shift & 0x3fff) as usize * 16;
        Layout {
            start: field(0),
            leading: field(16),
            stride: field(32),
            base: (descriptor >> 49 & 7) as usize,
            swizzle: match descriptor >> 62 {
                0 => Swizzle::None,
                1 => Swizzle::B128,
                2 => Swizzle::B64,
                _ => Swizzle::B32,
            },
            transposed,
        }
    }

    /// Address of piece `piece` of line `line`: lines are rows or columns and pieces lie along k, or the other way
    /// round if transposed. Of the lines in question, eight make a group.
    #[inline(always)]
    fn piece(&self, line: usize, piece: usize) -> usize {
        let (group, inside) = (line / 8, line % 8);
        let span = self.swizzle.span();
        let per_span = span / 16;
        let offset = match (self.swizzle, self.transposed) {
            (Swizzle::None, false) => inside * 16 + group * self.stride + piece * self.leading,
            (Swizzle::None, true) => inside * 16 + group * self.leading + piece * self.stride,
            (_, false) => inside * span + group * self.stride + piece * 16,
            (_, true) => {
                inside * span
                    + group * self.stride
                    + piece / per_span * self.leading
                    + piece % per_span * 16
            }
        };
        self.swizzle.place(self.start + offset, self.base)
    }
}

/// Calls `f(line, piece, address)` for the pieces of a factor: `lines` rows or columns from `first`, all of k.
#[inline(always)]
pub(super) fn pieces(
    layout: &Layout,
    first: usize,
    lines: usize,
    mut f: impl FnMut(usize, usize, usize),
) {
    // k is 32 bytes throughout; transposed factors have two bytes per element, so 16 steps of k
    if layout.transposed {
        for k in 0..16 {
            for piece in first / 8..(first + lines) / 8 {
                f(k, piece, layout.piece(k, piece));
            }
        }
    } else {
        for line in first..first + lines {
            for piece in 0..2 {
                f(line, piece, layout.piece(line, piece));
            }
        }
    }
}
