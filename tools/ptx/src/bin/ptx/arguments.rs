//! Arguments of a kernel as they are given on the command line.

use ptx::{Arg, Device};

use crate::tensor::{Tensor, Type};

/// One argument.
#[derive(Debug, Clone)]
pub enum Argument {
    /// Bytes that are handed over as they are.
    Scalar(Vec<u8>),
    /// Memory of the device.
    Buffer(Tensor),
    /// Memory that nobody has written.
    Empty(Tensor),
}

/// Reads `TYPE:VALUE`, `TYPE[SHAPE]=FILL`, `null`, `FILE.npy` or `FILE.safetensors:NAME`.
pub fn argument(text: &str) -> Result<Argument, String> {
    if text == "null" {
        return Ok(Argument::Scalar(vec![0; 8]));
    }
    if text.ends_with(".npy") || text.contains(".safetensors") {
        return Tensor::read(text).map(Argument::Buffer);
    }
    if let Some((ty, rest)) = text.split_once('[') {
        return buffer(ty, rest).map_err(|message| format!("{text}: {message}"));
    }
    if let Some((ty, value)) = text.split_once(':') {
        return scalar(ty, value).map_err(|message| format!("{text}: {message}"));
    }
    Err(format!(
        "{text} is no argument; write a number as i32:5, a buffer as f32[64,32]=random, null, or the name of a .npy or .safetensors file"
    ))
}

fn scalar(ty: &str, value: &str) -> Result<Argument, String> {
    let ty = Type::named(ty)?;
    let wrong = || format!("{value} is not a number of {}", ty.name);
    // whole numbers of 64 bits do not go through f64
    let bytes = match ty.name {
        "u64" => value
            .parse::<u64>()
            .map(|v| v.to_le_bytes().to_vec())
            .map_err(|_| wrong())?,
        "i64" => value
            .parse::<i64>()
            .map(|v| v.to_le_bytes().to_vec())
            .map_err(|_| wrong())?,
        _ => {
            let number: f64 = value.parse().map_err(|_| wrong())?;
            let bytes = (ty.from_f64)(number);
            let whole = ty.name.starts_with(['u', 'i']);
            if whole && (ty.to_f64)(&bytes) != number {
                return Err(wrong());
            }
            bytes
        }
    };
    Ok(Argument::Scalar(bytes))
}

fn buffer(ty: &str, rest: &str) -> Result<Argument, String> {
    let ty = Type::named(ty)?;
    let (shape, fill) = match rest.split_once(']') {
        Some((shape, "")) => (shape, "empty"),
        Some((shape, fill)) => (
            shape,
            fill.strip_prefix('=')
                .ok_or("after the shape comes =FILL")?,
        ),
        None => return Err("the shape has no end; write TYPE[SHAPE]=FILL".into()),
    };
    let shape: Result<Vec<usize>, _> = shape
        .split(',')
        .map(|n| n.trim().parse::<usize>())
        .collect();
    let shape = shape.map_err(|_| "the shape is not a list of numbers")?;
    let count = shape.iter().try_fold(1usize, |all, n| all.checked_mul(*n));
    let count = count
        .filter(|n| *n <= 1 << 30)
        .ok_or("the buffer has more than 2^30 elements")?;
    let (name, seed) = fill.split_once(':').unwrap_or((fill, "1"));
    let values: Box<dyn Iterator<Item = f64>> = match name {
        "empty" => {
            let bytes = vec![0xff; count * ty.bytes];
            return Ok(Argument::Empty(Tensor { ty, shape, bytes }));
        }
        "range" => Box::new((0..count).map(|i| i as f64)),
        "random" => {
            let seed: u64 = seed.parse().map_err(|_| "the seed is not a whole number")?;
            Box::new(random(seed).take(count))
        }
        number => {
            let number: f64 = number.parse().map_err(
                |_| "it is filled with a number, `range`, `random`, `random:SEED` or `empty`",
            )?;
            Box::new(std::iter::repeat_n(number, count))
        }
    };
    let bytes = values.flat_map(|v| (ty.from_f64)(v)).collect();
    Ok(Argument::Buffer(Tensor { ty, shape, bytes }))
}

/// Numbers between -1 and 1 (SplitMix64).
fn random(seed: u64) -> impl Iterator<Item = f64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = state;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    })
}

/// An argument on a device, and how its memory is read back.
pub struct Placed {
    pub arg: Arg,
    buffer: Option<(u64, Tensor)>,
}

impl Placed {
    /// Puts an argument on a device.
    pub fn new(device: &mut Device, argument: &Argument) -> Result<Placed, String> {
        let (tensor, written) = match argument {
            Argument::Scalar(bytes) => {
                return Ok(Placed {
                    arg: Arg::bytes(bytes.clone()),
                    buffer: None,
                });
            }
            Argument::Buffer(tensor) => (tensor, true),
            Argument::Empty(tensor) => (tensor, false),
        };
        let address = device.allocate(tensor.bytes.len());
        if written {
            device
                .write(address, &tensor.bytes)
                .map_err(|e| e.to_string())?;
        }
        Ok(Placed {
            arg: address.into(),
            buffer: Some((address, tensor.clone())),
        })
    }

    /// What its memory holds now; None for a number.
    pub fn read(&self, device: &Device) -> Result<Option<Tensor>, String> {
        let Some((address, tensor)) = &self.buffer else {
            return Ok(None);
        };
        let mut tensor = tensor.clone();
        device
            .read(*address, &mut tensor.bytes)
            .map_err(|e| e.to_string())?;
        Ok(Some(tensor))
    }
}
