//! Types and state spaces of PTX.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    U(u8),
    S(u8),
    B(u8),
    F16,
    F16x2,
    BF16,
    BF16x2,
    E4M3,
    E5M2,
    TF32,
    F32,
    F64,
    Pred,
}

impl Type {
    /// From a suffix without its dot.
    pub fn parse(text: &str) -> Option<Type> {
        let integer = |digits: &str| match digits {
            "8" => Some(8),
            "16" => Some(16),
            "32" => Some(32),
            "64" => Some(64),
            _ => None,
        };
        Some(match text {
            "pred" => Type::Pred,
            "f16" => Type::F16,
            "f16x2" => Type::F16x2,
            "bf16" => Type::BF16,
            "bf16x2" => Type::BF16x2,
            "e4m3" => Type::E4M3,
            "e5m2" => Type::E5M2,
            "tf32" => Type::TF32,
            "f32" => Type::F32,
            "f64" => Type::F64,
            "b128" => Type::B(128),
            _ => match text.as_bytes().first()? {
                b'u' => Type::U(integer(&text[1..])?),
                b's' => Type::S(integer(&text[1..])?),
                b'b' => Type::B(integer(&text[1..])?),
                _ => return None,
            },
        })
    }

    pub fn bits(self) -> u8 {
        match self {
            Type::U(bits) | Type::S(bits) | Type::B(bits) => bits,
            Type::E4M3 | Type::E5M2 => 8,
            Type::F16 | Type::BF16 => 16,
            Type::F16x2 | Type::BF16x2 | Type::TF32 | Type::F32 => 32,
            Type::F64 => 64,
            Type::Pred => 1,
        }
    }

    pub fn bytes(self) -> u8 {
        self.bits() / 8
    }

    pub fn is_signed(self) -> bool {
        matches!(self, Type::S(_))
    }
}

/// Where an address points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Space {
    /// Memory of the device; constants live there too.
    Global,
    /// Memory of a block.
    Shared,
    /// Memory of a thread.
    Local,
    /// Arguments of the kernel.
    Param,
    /// One address for all spaces.
    Generic,
}

impl std::fmt::Display for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Space::Global => "global",
            Space::Shared => "shared",
            Space::Local => "local",
            Space::Param => "param",
            Space::Generic => "generic",
        })
    }
}
