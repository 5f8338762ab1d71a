//! Every kernel that the library may run, for whoever wants all of them: tests, budgets, benchmarks, the compile command.

use crate::program::Program;

/// A kernel in a program, with what it may use.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The program.
    pub program: Program,
    /// The kernel in it.
    pub entry: &'static str,
    /// Which of several that do the same, and why it exists.
    pub variant: String,
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// Registers of a thread, at most; the tests hold every compilation to it.
    pub registers: u32,
}

/// All of them.
pub fn all() -> Vec<Entry> {
    [
        crate::adamw::list(),
        crate::cross_entropy::list(),
        crate::elementwise::list(),
        crate::embedding::list(),
        crate::gemm::list(),
        crate::gradient_norm::list(),
        crate::inner_update::list(),
        crate::layout::list(),
        crate::linear_cross_entropy::list(),
        crate::reduce::list(),
        crate::rms_norm::list(),
        crate::rope::list(),
        crate::swa_attention::list(),
        crate::swiglu_mlp::list(),
    ]
    .concat()
}
