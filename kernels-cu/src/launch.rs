//! One run of a kernel, as plain data.

use std::sync::Arc;

use crate::memory::Allocation;
use crate::program::Program;

/// Bytes on a device.
#[derive(Debug, Clone)]
pub struct View {
    pub(crate) address: u64,
    pub(crate) bytes: usize,
    /// The memory they lie in, kept alive; None for an address of an interpreted device.
    pub(crate) owner: Option<Arc<Allocation>>,
}

impl View {
    /// Bytes at an address that this process interprets itself; a [`Gpu`](crate::Gpu) refuses to run on it.
    pub fn interpreted(address: u64, bytes: usize) -> Self {
        View {
            address,
            bytes,
            owner: None,
        }
    }

    /// Address on the device.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Their number.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// `bytes` of them, from `start`. Panics if there are not so many.
    pub fn part(&self, start: usize, bytes: usize) -> Self {
        assert!(start + bytes <= self.bytes, "{start} + {bytes} of {self:?}");
        View {
            address: self.address + start as u64,
            bytes,
            owner: self.owner.clone(),
        }
    }
}

/// An argument of a kernel.
#[derive(Debug, Clone)]
pub enum Arg {
    /// A pointer.
    View(View),
    /// A pointer that may be null.
    Null,
    /// `unsigned`.
    U32(u32),
    /// `unsigned long long`.
    U64(u64),
    /// `float`.
    F32(f32),
}

impl From<&View> for Arg {
    fn from(view: &View) -> Self {
        Arg::View(view.clone())
    }
}

impl From<Option<&View>> for Arg {
    fn from(view: Option<&View>) -> Self {
        view.map_or(Arg::Null, Arg::from)
    }
}

impl From<u32> for Arg {
    fn from(x: u32) -> Self {
        Arg::U32(x)
    }
}

impl From<u64> for Arg {
    fn from(x: u64) -> Self {
        Arg::U64(x)
    }
}

impl From<f32> for Arg {
    fn from(x: f32) -> Self {
        Arg::F32(x)
    }
}

/// One run of a kernel. Only the functions of the kernels' modules make one, and they check that views are as long as the kernel
/// will read and write: that is what makes running it sound.
#[derive(Debug, Clone)]
pub struct Launch {
    pub(crate) program: Program,
    pub(crate) entry: &'static str,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared: u32,
    pub(crate) args: Vec<Arg>,
    pub(crate) cost: Cost,
}

/// What a launch must do at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Operations of its matrix products by the leanest algorithm, a product and a sum being two.
    pub flops: u64,
    /// Bytes of global memory: each input read once, each output written once.
    pub bytes: u64,
}

impl Launch {
    /// The program to load.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Name of the kernel in it.
    pub fn entry(&self) -> &'static str {
        self.entry
    }

    /// Blocks.
    pub fn grid(&self) -> [u32; 3] {
        self.grid
    }

    /// Threads of a block.
    pub fn block(&self) -> [u32; 3] {
        self.block
    }

    /// Bytes of dynamic shared memory.
    pub fn shared(&self) -> u32 {
        self.shared
    }

    /// Arguments, in the kernel's order.
    pub fn args(&self) -> &[Arg] {
        &self.args
    }

    /// What it must do at least.
    pub fn cost(&self) -> Cost {
        self.cost
    }
}
