//! Element types, and their values as f32.

use half::{bf16, f16};

/// An element type (`cudaDataType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    F32,
    F16,
    BF16,
}

impl Element {
    pub fn from_number(number: i32) -> Option<Element> {
        match number {
            0 => Some(Element::F32),
            2 => Some(Element::F16),
            14 => Some(Element::BF16),
            _ => None,
        }
    }

    pub fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::F16 | Element::BF16 => 2,
        }
    }

    /// The values that bytes hold.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let (fours, twos) = (bytes.as_chunks::<4>().0, bytes.as_chunks::<2>().0);
        match self {
            Element::F32 => fours.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Element::F16 => twos
                .iter()
                .map(|b| f16::from_le_bytes(*b).to_f32())
                .collect(),
            Element::BF16 => twos
                .iter()
                .map(|b| bf16::from_le_bytes(*b).to_f32())
                .collect(),
        }
    }

    /// Bytes that hold values, rounded to nearest.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        let values = values.iter();
        match self {
            Element::F32 => values.flat_map(|v| v.to_le_bytes()).collect(),
            Element::F16 => values
                .flat_map(|v| f16::from_f32(*v).to_le_bytes())
                .collect(),
            Element::BF16 => values
                .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
                .collect(),
        }
    }
}

/// Rounds to the 10 bits of TF32, halves away from zero, as `cvt.rna.tf32.f32` does.
pub fn to_tf32(value: f32) -> f32 {
    if !value.is_finite() {
        return value;
    }
    f32::from_bits((value.to_bits() + 0x1000) & !0x1fff)
}

#[cfg(test)]
mod tests {
    use super::{Element, to_tf32};

    #[test]
    fn values_come_back() {
        let values = [1.0, -0.5, 1024.0, 0.0];
        for element in [Element::F32, Element::F16, Element::BF16] {
            let bytes = element.encode(&values);
            assert_eq!(bytes.len(), 4 * element.bytes());
            assert_eq!(element.decode(&bytes), values);
        }
    }

    #[test]
    fn tf32_has_ten_bits() {
        let step = 1.0 / 1024.0;
        assert_eq!(to_tf32(1.0 + 0.49 * step), 1.0);
        assert_eq!(to_tf32(1.0 + 0.5 * step), 1.0 + step);
        assert_eq!(to_tf32(-1.0 - 0.5 * step), -1.0 - step);
        assert!(to_tf32(f32::NAN).is_nan());
        assert_eq!(to_tf32(f32::INFINITY), f32::INFINITY);
    }
}
