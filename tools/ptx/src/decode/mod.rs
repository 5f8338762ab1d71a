//! Syntax trees to programs: names become slots, each opcode becomes an action that is specialised for its types and
//! suffixes. An opcode or suffix nobody claims is an error.

mod bits;
mod bulk;
mod calls;
mod control;
mod convert;
mod decoder;
mod float;
pub(crate) mod fp8;
mod functions;
mod hopper;
mod in_flight;
mod integer;
mod line;
mod matrix;
mod mbarrier;
mod memory;
mod moves;
mod narrow;
mod registers;
pub(crate) mod rounding;
mod slots;
mod symbols;
mod warp;

pub(crate) use convert::sign_extend;
pub(crate) use decoder::{decode, problems};
