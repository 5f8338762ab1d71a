//! Work that streams do, other than kernels: copies, fills, frees.

use crate::code::Code;
use crate::driver::{Driver, Handle};
use crate::host::HostCall;
use crate::launch::Start;
use crate::memory::{Kind, Place};

/// A piece of work.
#[derive(Clone)]
pub enum Op {
    Kernel(Box<Start>),
    Copy(Copy),
    Fill(Fill),
    Host(HostCall),
    /// Reaches an event.
    Record(Handle),
    /// Frees memory.
    Free(u64),
    /// Orders other work.
    Nothing,
}

/// Bytes in rows and slices: how far apart they start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pitch {
    pub row: usize,
    pub slice: usize,
}

/// Bytes per row, rows per slice, slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub width: usize,
    pub height: usize,
    pub depth: usize,
}

impl Extent {
    pub fn bytes(&self) -> usize {
        self.width * self.height * self.depth
    }

    /// Bytes from the first to behind the last; None if there are more than can be addressed.
    pub fn span(&self, pitch: Pitch) -> Option<usize> {
        if self.width == 0 || self.height == 0 || self.depth == 0 {
            return Some(0);
        }
        let rows = pitch.row.checked_mul(self.height - 1)?;
        let slices = pitch.slice.checked_mul(self.depth - 1)?;
        rows.checked_add(slices)?.checked_add(self.width)
    }

    /// Where the rows start.
    fn rows(&self, pitch: Pitch) -> impl Iterator<Item = usize> + use<> {
        let Extent { height, depth, .. } = *self;
        (0..depth).flat_map(move |z| (0..height).map(move |y| z * pitch.slice + y * pitch.row))
    }
}

/// A copy between two places.
#[derive(Debug, Clone)]
pub struct Copy {
    pub call: &'static str,
    pub from: Place,
    pub from_pitch: Pitch,
    pub to: Place,
    pub to_pitch: Pitch,
    pub extent: Extent,
}

/// Sets memory to a value of 1, 2 or 4 bytes.
#[derive(Debug, Clone)]
pub struct Fill {
    pub call: &'static str,
    pub to: Place,
    pub value: Vec<u8>,
    /// Bytes between the starts of rows.
    pub pitch: usize,
    /// Values per row, rows.
    pub width: usize,
    pub height: usize,
}

impl Driver {
    fn read(&self, place: &Place, at: usize, bytes: usize) -> ptx::Result<Vec<u8>> {
        match place {
            Place::Device(address) => {
                let mut held = vec![0; bytes];
                self.device.read(address + at as u64, &mut held)?;
                Ok(held)
            }
            Place::Host(memory) => Ok(memory.read(at, bytes)),
            Place::Held(all) => Ok(all[at..at + bytes].to_vec()),
        }
    }

    fn write(&mut self, place: &Place, at: usize, bytes: &[u8]) -> ptx::Result<()> {
        match place {
            Place::Device(address) => self.device.write(address + at as u64, bytes),
            Place::Host(memory) => {
                memory.write(at, bytes);
                Ok(())
            }
            Place::Held(_) => unreachable!("held bytes are only read"),
        }
    }

    fn copy(&mut self, copy: &Copy) -> ptx::Result<()> {
        let from = copy.extent.rows(copy.from_pitch);
        let to = copy.extent.rows(copy.to_pitch);
        for (from, to) in from.zip(to) {
            let row = self.read(&copy.from, from, copy.extent.width)?;
            self.write(&copy.to, to, &row)?;
        }
        Ok(())
    }

    fn fill(&mut self, fill: &Fill) -> ptx::Result<()> {
        let row = fill.value.repeat(fill.width);
        for y in 0..fill.height {
            self.write(&fill.to, y * fill.pitch, &row)?;
        }
        Ok(())
    }

    /// Does a piece of work and returns its simulated time in nanoseconds.
    pub fn run(&mut self, op: &Op, context: Handle) -> f64 {
        let (call, done, time) = match op {
            Op::Kernel(start) => return self.run_kernel(start, context),
            Op::Copy(copy) => {
                let inside = matches!((&copy.from, &copy.to), (Place::Device(_), Place::Device(_)));
                let time = self
                    .settings
                    .chip
                    .copy_time(copy.extent.bytes() as u64, !inside);
                (copy.call, self.copy(copy), time)
            }
            Op::Fill(fill) => {
                let bytes = fill.value.len() * fill.width * fill.height;
                let time = self.settings.chip.copy_time(bytes as u64, false);
                (fill.call, self.fill(fill), time)
            }
            Op::Free(address) => {
                if let Err(failure) = self.free(*address, &[Kind::Device]) {
                    let why = failure.why.unwrap_or_default();
                    self.break_context(context, "cuMemFreeAsync", failure.code, &why);
                }
                return 0.0;
            }
            Op::Host(_) | Op::Record(_) | Op::Nothing => return 0.0,
        };
        if let Err(error) = done {
            self.break_context(context, call, Code::ILLEGAL_ADDRESS, &error.to_string());
        }
        time
    }
}

#[cfg(test)]
mod tests {
    use super::{Extent, Pitch};

    #[test]
    fn rows_and_their_span() {
        let extent = Extent {
            width: 3,
            height: 2,
            depth: 2,
        };
        let pitch = Pitch { row: 5, slice: 20 };
        assert_eq!(extent.rows(pitch).collect::<Vec<_>>(), [0, 5, 20, 25]);
        assert_eq!(extent.span(pitch), Some(28));
        assert_eq!(extent.bytes(), 12);
        assert_eq!(Extent { width: 0, ..extent }.span(pitch), Some(0));
        let far = Pitch {
            row: usize::MAX,
            slice: 1,
        };
        assert_eq!(extent.span(far), None);
    }
}
