//! Buffers as files hold them: .npy and .safetensors.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use serde_json::{Value, json};

/// Element type of a buffer.
#[derive(Debug, Clone, Copy)]
pub struct Type {
    pub name: &'static str,
    pub bytes: usize,
    /// In .npy; bf16 has none.
    npy: &'static str,
    /// In .safetensors.
    safetensors: &'static str,
    pub to_f64: fn(&[u8]) -> f64,
    pub from_f64: fn(f64) -> Vec<u8>,
}

/// Bytes of a fixed number, which the caller has checked.
fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the bytes of one element")
}

const fn ty(
    name: &'static str,
    bytes: usize,
    npy: &'static str,
    safetensors: &'static str,
    to_f64: fn(&[u8]) -> f64,
    from_f64: fn(f64) -> Vec<u8>,
) -> Type {
    Type {
        name,
        bytes,
        npy,
        safetensors,
        to_f64,
        from_f64,
    }
}

const TYPES: [Type; 12] = [
    ty("u8", 1, "|u1", "U8", |b| b[0].into(), |v| vec![v as u8]),
    ty(
        "i8",
        1,
        "|i1",
        "I8",
        |b| (b[0] as i8).into(),
        |v| vec![v as i8 as u8],
    ),
    ty(
        "u16",
        2,
        "<u2",
        "U16",
        |b| u16::from_le_bytes(fixed(b)).into(),
        |v| (v as u16).to_le_bytes().into(),
    ),
    ty(
        "i16",
        2,
        "<i2",
        "I16",
        |b| i16::from_le_bytes(fixed(b)).into(),
        |v| (v as i16).to_le_bytes().into(),
    ),
    ty(
        "u32",
        4,
        "<u4",
        "U32",
        |b| u32::from_le_bytes(fixed(b)).into(),
        |v| (v as u32).to_le_bytes().into(),
    ),
    ty(
        "i32",
        4,
        "<i4",
        "I32",
        |b| i32::from_le_bytes(fixed(b)).into(),
        |v| (v as i32).to_le_bytes().into(),
    ),
    ty(
        "u64",
        8,
        "<u8",
        "U64",
        |b| u64::from_le_bytes(fixed(b)) as f64,
        |v| (v as u64).to_le_bytes().into(),
    ),
    ty(
        "i64",
        8,
        "<i8",
        "I64",
        |b| i64::from_le_bytes(fixed(b)) as f64,
        |v| (v as i64).to_le_bytes().into(),
    ),
    ty(
        "f16",
        2,
        "<f2",
        "F16",
        |b| f16::from_le_bytes(fixed(b)).to_f64(),
        |v| f16::from_f64(v).to_le_bytes().into(),
    ),
    ty(
        "bf16",
        2,
        "",
        "BF16",
        |b| bf16::from_le_bytes(fixed(b)).to_f64(),
        |v| bf16::from_f64(v).to_le_bytes().into(),
    ),
    ty(
        "f32",
        4,
        "<f4",
        "F32",
        |b| f32::from_le_bytes(fixed(b)).into(),
        |v| (v as f32).to_le_bytes().into(),
    ),
    ty(
        "f64",
        8,
        "<f8",
        "F64",
        |b| f64::from_le_bytes(fixed(b)),
        |v| v.to_le_bytes().into(),
    ),
];

impl Type {
    pub fn named(name: &str) -> Result<Type, String> {
        let known = TYPES.map(|ty| ty.name).join(", ");
        let found = TYPES.into_iter().find(|ty| ty.name == name);
        found.ok_or_else(|| format!("the type {name} is not known; there are {known}"))
    }
}

/// A buffer with its shape; row-major, little-endian.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub ty: Type,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Tensor {
    pub fn values(&self) -> impl Iterator<Item = f64> {
        self.bytes.chunks_exact(self.ty.bytes).map(self.ty.to_f64)
    }

    /// Reads `FILE.npy` or `FILE.safetensors:NAME`.
    pub fn read(text: &str) -> Result<Tensor, String> {
        let (path, name) = match text.split_once(".safetensors") {
            Some((stem, name)) => (format!("{stem}.safetensors"), name.strip_prefix(':')),
            None => (text.to_string(), None),
        };
        let bytes = std::fs::read(&path).map_err(|e| format!("{path}: {e}"))?;
        let tensor = if path.ends_with(".npy") {
            from_npy(&bytes)
        } else {
            from_safetensors(&bytes, name)
        };
        tensor.map_err(|message| format!("{path}: {message}"))
    }

    /// Writes `FILE.npy` or `FILE.safetensors`, there under the name `out`.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        let bytes = match extension {
            "npy" if self.ty.npy.is_empty() => Err(format!(
                "a .npy file has no {}; write a .safetensors file",
                self.ty.name
            )),
            "npy" => Ok(self.npy()),
            "safetensors" => Ok(self.safetensors()),
            _ => Err("only .npy and .safetensors files are written".into()),
        };
        let written =
            bytes.and_then(|bytes| std::fs::write(path, bytes).map_err(|e| e.to_string()));
        written.map_err(|message| format!("{}: {message}", path.display()))
    }

    fn npy(&self) -> Vec<u8> {
        let shape: String = self.shape.iter().map(|n| format!("{n},")).collect();
        let header = format!(
            "{{'descr': '{}', 'fortran_order': False, 'shape': ({shape}), }}",
            self.ty.npy
        );
        // magic, version and length take ten bytes; all of it is a multiple of 64 and ends with a new line
        let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((length as u16).to_le_bytes());
        bytes.extend(format!("{header:<width$}\n", width = length - 1).bytes());
        bytes.extend(&self.bytes);
        bytes
    }

    fn safetensors(&self) -> Vec<u8> {
        let entry = json!({
            "dtype": self.ty.safetensors,
            "shape": self.shape,
            "data_offsets": [0, self.bytes.len()],
        });
        let header = json!({ "out": entry }).to_string();
        let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.extend(&self.bytes);
        bytes
    }
}

fn from_npy(bytes: &[u8]) -> Result<Tensor, String> {
    let short = || "it ends too early".to_string();
    if !bytes.starts_with(b"\x93NUMPY") {
        return Err("it is not a .npy file".into());
    }
    let (length, start): (usize, usize) = match bytes.get(6) {
        Some(1) => (
            usize::from(u16::from_le_bytes(fixed(
                bytes.get(8..10).ok_or_else(short)?,
            ))),
            10,
        ),
        Some(_) => (
            u32::from_le_bytes(fixed(bytes.get(8..12).ok_or_else(short)?)) as usize,
            12,
        ),
        None => return Err(short()),
    };
    let data = start
        .checked_add(length)
        .filter(|end| *end <= bytes.len())
        .ok_or_else(short)?;
    let header = String::from_utf8_lossy(&bytes[start..data]);
    let field = |name: &str| {
        let rest = header.split_once(&format!("'{name}':"))?.1;
        Some(rest.trim_start())
    };
    let descr = field("descr")
        .and_then(|rest| rest.split('\'').nth(1))
        .unwrap_or_default();
    let known = TYPES
        .into_iter()
        .find(|ty| ty.npy == descr && !descr.is_empty());
    let ty = known.ok_or_else(|| format!("the type {descr:?} is not known"))?;
    if field("fortran_order").is_none_or(|rest| !rest.starts_with("False")) {
        return Err("it is in column-major order; save it in row-major order".into());
    }
    let shape = field("shape").and_then(|rest| rest.strip_prefix('(')?.split(')').next());
    let shape = shape.ok_or("it has no shape")?.split(',').map(str::trim);
    let shape: Result<Vec<usize>, _> = shape.filter(|n| !n.is_empty()).map(str::parse).collect();
    let shape = shape.map_err(|_| "its shape is damaged")?;
    tensor(ty, shape, &bytes[data..])
}

fn from_safetensors(bytes: &[u8], name: Option<&str>) -> Result<Tensor, String> {
    let short = || "it ends too early".to_string();
    let length = u64::from_le_bytes(fixed(bytes.get(..8).ok_or_else(short)?));
    let end = usize::try_from(length)
        .ok()
        .and_then(|n| n.checked_add(8))
        .ok_or_else(short)?;
    let header = bytes.get(8..end).ok_or_else(short)?;
    let header: BTreeMap<String, Value> =
        serde_json::from_slice(header).map_err(|e| format!("its header is damaged: {e}"))?;
    let names: Vec<&str> = header
        .keys()
        .map(String::as_str)
        .filter(|n| *n != "__metadata__")
        .collect();
    let name = match (name, &names[..]) {
        (Some(name), _) => name,
        (None, [name]) => *name,
        (None, _) => {
            return Err(format!(
                "say which tensor with `:NAME`; it has {}",
                names.join(", ")
            ));
        }
    };
    let entry = header
        .get(name)
        .ok_or_else(|| format!("it has no tensor {name}, only {}", names.join(", ")))?;
    let dtype = entry["dtype"].as_str().unwrap_or_default();
    let known = TYPES.into_iter().find(|ty| ty.safetensors == dtype);
    let ty = known.ok_or_else(|| format!("the type {dtype} is not known"))?;
    let numbers = |key: &str| -> Option<Vec<usize>> {
        let list = entry[key].as_array()?.iter();
        list.map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok()))
            .collect()
    };
    let shape = numbers("shape").ok_or("its header is damaged")?;
    let offsets = numbers("data_offsets")
        .filter(|o| o.len() == 2)
        .ok_or("its header is damaged")?;
    let (from, to) = (
        end.saturating_add(offsets[0]),
        end.saturating_add(offsets[1]),
    );
    tensor(ty, shape, bytes.get(from..to).ok_or_else(short)?)
}

fn tensor(ty: Type, shape: Vec<usize>, bytes: &[u8]) -> Result<Tensor, String> {
    let count = shape
        .iter()
        .try_fold(ty.bytes, |all, n| all.checked_mul(*n));
    if count != Some(bytes.len()) {
        return Err(format!(
            "{} bytes do not fill the shape {shape:?} of {}",
            bytes.len(),
            ty.name
        ));
    }
    Ok(Tensor {
        ty,
        shape,
        bytes: bytes.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Tensor, Type, from_npy, from_safetensors};

    #[test]
    fn what_is_written_can_be_read() {
        let ty = Type::named("f32").expect("a type");
        let bytes: Vec<u8> = (0..6)
            .flat_map(|i| (ty.from_f64)(f64::from(i) / 4.0))
            .collect();
        let tensor = Tensor {
            ty,
            shape: vec![2, 3],
            bytes,
        };
        for read in [
            from_npy(&tensor.npy()),
            from_safetensors(&tensor.safetensors(), None),
        ] {
            let read = read.expect("a tensor");
            assert_eq!(
                (read.ty.name, read.shape, read.bytes),
                ("f32", vec![2, 3], tensor.bytes.clone())
            );
        }
        assert_eq!(tensor.npy().len() % 64, 24);
        for cut in [0, 5, 9, 40, 140] {
            assert!(from_npy(&tensor.npy()[..cut]).is_err());
            assert!(from_safetensors(&tensor.safetensors()[..cut.min(90)], None).is_err());
        }
    }
}
