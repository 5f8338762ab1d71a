//! What runs launches: a device, or the interpreter.

use half::bf16;
use kernels_cu::{DType, Gpu, Launch, Result, View};

use crate::interpreted::Interpreted;

/// Memory, and launches on it. Numbers are f64 on this side, whatever they are on the other.
pub trait Machine {
    /// Copies bytes there.
    ///
    /// # Errors
    /// There is no room.
    fn upload_bytes(&mut self, bytes: &[u8]) -> Result<View>;

    /// Room for so many bytes, filled with NaN.
    ///
    /// # Errors
    /// There is no room.
    fn room(&mut self, bytes: usize) -> Result<View>;

    /// Copies bytes back, once all work is done.
    ///
    /// # Errors
    /// Work failed.
    fn download_bytes(&mut self, view: &View) -> Result<Vec<u8>>;

    /// Runs a launch, now or later.
    ///
    /// # Errors
    /// It does not compile, or is refused.
    fn launch(&mut self, launch: &Launch) -> Result<()>;
}

impl Machine for Interpreted {
    fn upload_bytes(&mut self, bytes: &[u8]) -> Result<View> {
        Ok(self.write_bytes(bytes))
    }

    fn room(&mut self, bytes: usize) -> Result<View> {
        Ok(self.output(bytes.div_ceil(4), DType::F32).part(0, bytes))
    }

    fn download_bytes(&mut self, view: &View) -> Result<Vec<u8>> {
        Ok(self.read_bytes(view))
    }

    fn launch(&mut self, launch: &Launch) -> Result<()> {
        self.run(launch);
        Ok(())
    }
}

impl Machine for Gpu {
    fn upload_bytes(&mut self, bytes: &[u8]) -> Result<View> {
        self.upload(bytes)
    }

    fn room(&mut self, bytes: usize) -> Result<View> {
        let view = self.allocate(bytes)?;
        self.fill(&view, 0xff)?;
        Ok(view)
    }

    fn download_bytes(&mut self, view: &View) -> Result<Vec<u8>> {
        let mut bytes = vec![0; view.bytes()];
        self.read(view, &mut bytes)?;
        Ok(bytes)
    }

    fn launch(&mut self, launch: &Launch) -> Result<()> {
        Gpu::launch(self, launch)
    }
}

/// Numbers as the bytes of a type, rounded to nearest.
pub fn to_bytes(x: &[f64], dtype: DType) -> Vec<u8> {
    match dtype {
        DType::F32 => x.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
        DType::BF16 => x
            .iter()
            .flat_map(|x| bf16::from_f64(*x).to_le_bytes())
            .collect(),
    }
}

/// The numbers that bytes of a type are.
pub fn from_bytes(bytes: &[u8], dtype: DType) -> Vec<f64> {
    match dtype {
        DType::F32 => {
            let (words, _) = bytes.as_chunks();
            let number = |w: &[u8; 4]| f64::from(f32::from_le_bytes(*w));
            words.iter().map(number).collect()
        }
        DType::BF16 => {
            let (words, _) = bytes.as_chunks();
            let number = |w: &[u8; 2]| bf16::from_le_bytes(*w).to_f64();
            words.iter().map(number).collect()
        }
    }
}
