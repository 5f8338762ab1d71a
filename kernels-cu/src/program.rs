//! Device code and the constants it is specialised by.

use std::fmt::Write;

/// Types of elements that kernels read and write. Sums are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32 bits. Products on tensor cores take each factor as a sum of two tf32 numbers, so they are as exact as f32.
    F32,
    /// 16 bits with 8 of them significant.
    BF16,
}

impl DType {
    /// Both.
    pub const ALL: [DType; 2] = [DType::F32, DType::BF16];

    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::BF16 => 2,
        }
    }

    /// The type in device code.
    pub fn device_name(self) -> &'static str {
        match self {
            DType::F32 => "float",
            DType::BF16 => "bf16",
        }
    }
}

/// One translation unit: files of device code, one after the other, behind its constants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Program {
    /// Name of the kernel's folder.
    pub name: &'static str,
    /// Names and texts of its files, in order.
    pub files: &'static [(&'static str, &'static str)],
    /// Macros that are defined before them.
    pub constants: Vec<(&'static str, String)>,
}

impl Program {
    /// A program with these constants.
    pub fn new(
        name: &'static str,
        files: &'static [(&'static str, &'static str)],
        constants: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        let constants = constants.into_iter().collect();
        Program {
            name,
            files,
            constants,
        }
    }

    /// The whole text, with marks that let messages and findings name a file and its line.
    pub fn source(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.constants {
            writeln!(text, "#define {name} {value}").expect("a string grows");
        }
        for (name, file) in self.files {
            writeln!(text, "#line 1 \"{name}\"\n{file}").expect("a string grows");
        }
        text
    }
}
