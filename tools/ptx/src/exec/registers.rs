//! Registers of a warp: a row of 32 lanes each, in three banks.

use half::{bf16, f16};
use num_traits::PrimInt;

/// Lanes of a warp.
pub(crate) const LANES: usize = 32;
/// All lanes.
pub(crate) const ALL: u32 = u32::MAX;

/// A value in every lane.
pub(crate) type Row<T> = [T; LANES];

/// Which rows a value lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Bank {
    /// One bit per lane.
    Predicate,
    /// Up to 32 bits; narrower values are extended with zeros.
    Word,
    /// 64 bits.
    Double,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Registers {
    pub predicates: Vec<u32>,
    pub words: Vec<Row<u32>>,
    pub doubles: Vec<Row<u64>>,
}

/// The set bits of a mask, from the lowest.
#[inline(always)]
pub(crate) fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        (left != 0).then(|| {
            let lane = left.trailing_zeros() as usize;
            left &= left - 1;
            lane
        })
    })
}

/// Calls `f` for the lanes of a mask.
#[inline(always)]
pub(crate) fn each(mask: u32, mut f: impl FnMut(usize)) {
    if mask == ALL {
        for lane in 0..LANES {
            f(lane);
        }
    } else {
        for lane in lanes(mask) {
            f(lane);
        }
    }
}

/// A type registers can hold.
pub(crate) trait Lane: Copy + Default + Send + Sync + 'static {
    const BANK: Bank;
    /// Bits of the type.
    const BITS: u8;
    fn from_bits(bits: u64) -> Self;
    fn bits(self) -> u64;
    fn get(registers: &Registers, slot: usize) -> Row<Self>;
    fn set(registers: &mut Registers, slot: usize, values: Row<Self>, mask: u32);
}

#[inline(always)]
fn row<A: Copy, B: Copy + Default>(values: &Row<A>, f: impl Fn(A) -> B) -> Row<B> {
    let mut out = [B::default(); LANES];
    for (out, value) in out.iter_mut().zip(values) {
        *out = f(*value);
    }
    out
}

/// `to[lane] = from[lane]` where the mask has a bit.
#[inline(always)]
fn blend<T: PrimInt>(to: &mut Row<T>, from: &Row<T>, mask: u32) {
    if mask == ALL {
        *to = *from;
        return;
    }
    let old = *to;
    for lane in 0..LANES {
        // without a branch, so that vectors can do it
        let chosen = if mask >> lane & 1 == 1 {
            T::max_value()
        } else {
            T::zero()
        };
        to[lane] = (from[lane] & chosen) | (old[lane] & !chosen);
    }
}

/// The lanes in which a byte is 1; it is 0 in the others.
#[inline(always)]
pub(crate) fn lanes_of(flags: &Row<u8>) -> u32 {
    // a store: the compiler would take the vector it has apart, lane by lane
    let flags = std::hint::black_box(flags);
    match pulp::Arch::new() {
        #[cfg(target_arch = "x86_64")]
        pulp::Arch::V4(v4) => top_bits(*v4, flags),
        #[cfg(target_arch = "x86_64")]
        pulp::Arch::V3(v3) => top_bits(v3, flags),
        _ => {
            let bits = flags.iter().enumerate();
            bits.fold(0, |bits, (lane, flag)| bits | u32::from(*flag) << lane)
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn top_bits(v3: pulp::x86::V3, flags: &Row<u8>) -> u32 {
    let top = v3.avx2._mm256_slli_epi16::<7>(pulp::cast(*flags));
    v3.avx2._mm256_movemask_epi8(top) as u32
}

macro_rules! lane {
    ($ty:ty, $bank:ident, $rows:ident, $slot:ty, $bits:literal, $from:expr, $to:expr) => {
        impl Lane for $ty {
            const BANK: Bank = Bank::$bank;
            const BITS: u8 = $bits;
            #[inline(always)]
            fn from_bits(bits: u64) -> Self {
                $from(bits as $slot)
            }
            #[inline(always)]
            fn bits(self) -> u64 {
                $to(self) as u64
            }
            #[inline(always)]
            fn get(registers: &Registers, slot: usize) -> Row<Self> {
                row(&registers.$rows[slot], $from)
            }
            #[inline(always)]
            fn set(registers: &mut Registers, slot: usize, values: Row<Self>, mask: u32) {
                blend(&mut registers.$rows[slot], &row(&values, $to), mask);
            }
        }
    };
}

lane!(u8, Word, words, u32, 8, |w| w as u8, |v| v as u32);
lane!(i8, Word, words, u32, 8, |w| w as i8, |v| v as u8 as u32);
lane!(u16, Word, words, u32, 16, |w| w as u16, |v| v as u32);
lane!(i16, Word, words, u32, 16, |w| w as i16, |v| v as u16 as u32);
lane!(u32, Word, words, u32, 32, |w| w, |v| v);
lane!(i32, Word, words, u32, 32, |w| w as i32, |v| v as u32);
lane!(f32, Word, words, u32, 32, f32::from_bits, f32::to_bits);
lane!(
    f16,
    Word,
    words,
    u32,
    16,
    |w| f16::from_bits(w as u16),
    |v: f16| v.to_bits() as u32
);
lane!(
    bf16,
    Word,
    words,
    u32,
    16,
    |w| bf16::from_bits(w as u16),
    |v: bf16| v.to_bits() as u32
);
lane!(u64, Double, doubles, u64, 64, |d| d, |v| v);
lane!(i64, Double, doubles, u64, 64, |d| d as i64, |v| v as u64);
lane!(f64, Double, doubles, u64, 64, f64::from_bits, f64::to_bits);

impl Lane for bool {
    const BANK: Bank = Bank::Predicate;
    const BITS: u8 = 1;
    #[inline(always)]
    fn from_bits(bits: u64) -> bool {
        bits & 1 == 1
    }
    #[inline(always)]
    fn bits(self) -> u64 {
        u64::from(self)
    }
    #[inline(always)]
    fn get(registers: &Registers, slot: usize) -> Row<bool> {
        let mask = registers.predicates[slot];
        std::array::from_fn(|lane| mask >> lane & 1 == 1)
    }
    #[inline(always)]
    fn set(registers: &mut Registers, slot: usize, values: Row<bool>, mask: u32) {
        let bits = lanes_of(&row(&values, u8::from));
        registers.set_predicate(slot, bits, mask);
    }
}

impl Registers {
    #[inline(always)]
    pub fn set_predicate(&mut self, slot: usize, bits: u32, mask: u32) {
        let to = &mut self.predicates[slot];
        *to = (*to & !mask) | (bits & mask);
    }
}
