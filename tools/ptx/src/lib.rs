//! A GPU for those who have none: runs PTX, the assembly language of CUDA, on a CPU.
//!
//! It parses what NVRTC, clang and Triton emit, runs whole grids with the rounding, saturation and NaN rules of PTX,
//! and tells what a device would not: races, reads of memory nobody wrote, copies that were not waited for,
//! barriers that not everybody reaches. Its counters (instructions, sectors, wavefronts, matrix work) are the same
//! in every run and for any number of threads. The README says what is not modelled.
//!
//! ```
//! use ptx::{Device, Launch, Module, Options};
//!
//! let module = Module::parse(
//!     ".version 8.0
//!      .target sm_80
//!      .address_size 64
//!      .visible .entry double(.param .u64 x) {
//!          .reg .b32 %r<3>;
//!          .reg .b64 %a<3>;
//!          ld.param.u64 %a0, [x];
//!          mov.u32 %r0, %tid.x;
//!          mad.wide.u32 %a1, %r0, 4, %a0;
//!          ld.global.u32 %r1, [%a1];
//!          add.u32 %r1, %r1, %r1;
//!          st.global.u32 [%a1], %r1;
//!          ret;
//!      }",
//! )?;
//! let kernel = module.kernel("double")?;
//! let mut device = Device::new();
//! let x = device.allocate(64 * 4);
//! device.write(x, &[3; 64 * 4])?;
//! let report = device.launch(&kernel, &Launch::linear(1, 64), &[x.into()], &Options::default())?;
//! assert!(report.findings.is_empty());
//! let mut out = [0; 4];
//! device.read(x, &mut out)?;
//! assert_eq!(out, [6; 4]);
//! # Ok::<(), ptx::Error>(())
//! ```

mod counters;
mod decode;
mod device;
mod error;
mod estimate;
mod exec;
mod finding;
mod flow;
mod hopper;
mod module;
mod opcodes;
mod program;
mod shadow;
mod tensor_map;
mod text;
mod types;
mod wide;

pub use counters::{Class, Counters, LineWork, Work};
pub use device::Device;
pub use error::{Error, Result};
pub use estimate::{Chip, Estimate, Occupancy, Part};
pub use exec::{Arg, Asynchrony, Launch, Options, Report};
pub use finding::{Finding, Kind, Party, Severity, SourceLine};
pub use module::{Kernel, Module};
pub use opcodes::Opcode;
pub use tensor_map::{Element, Swizzle, TensorMap, Tiling};
pub use types::Space;
