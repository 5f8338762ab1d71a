//! Keys and values that a session keeps: those still in the window, in buffers that are written in place.
//!
//! A buffer has room for the window and for as many rows again as go in at once. New rows are written behind the others; where
//! there is no more room, those still needed move to the front. So a token costs a row written and, spread over many tokens, a
//! row or two moved, and what a query sees lies side by side, as attention reads it.

use ops::Tensor;

use crate::Result;

/// Rows of one shape that come at the end and leave at the front.
#[derive(Clone)]
pub(super) struct Rows {
    /// [capacity, ..], of which the first `len` rows count.
    buffer: Tensor,
    len: usize,
}

impl Rows {
    /// None yet, of this shape each, of the dtype and on the device of `like`.
    pub fn new(row: &[usize], like: &Tensor) -> Result<Self> {
        let buffer = like.full_like(&[&[0], row].concat(), 0.0)?;
        Ok(Rows { buffer, len: 0 })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the buffer.
    pub fn bytes(&self) -> usize {
        self.buffer.len() * self.buffer.dtype().size()
    }

    /// Rows `start..end`. They share the buffer: as long as they live, a push copies it.
    pub fn rows(&self, start: usize, end: usize) -> Result<Tensor> {
        Ok(self.buffer.rows(start, end)?)
    }

    /// Forgets all but the first `len` rows.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Writes rows [t, ..] behind the others. Where there is no room only the last `needed` of those are kept. The buffer grows
    /// with them, and has room for `most` rows, at least `needed + t`, from the time on when it has room for those needed.
    pub fn push(&mut self, rows: &Tensor, needed: usize, most: usize) -> Result<()> {
        let (t, capacity) = (rows.shape()[0], self.buffer.shape()[0]);
        if self.len + t > capacity {
            let kept = needed.min(self.len);
            let first = self.len - kept;
            if capacity < most {
                let mut shape = self.buffer.shape().to_vec();
                let larger = (2 * capacity).max(kept + t);
                shape[0] = if larger < needed {
                    larger
                } else {
                    most.max(kept + t)
                };
                let mut larger = self.buffer.full_like(&shape, 0.0)?;
                larger.put_rows(0, &self.rows(first, self.len)?)?;
                self.buffer = larger;
            } else {
                self.buffer.move_rows(first..self.len, 0)?;
            }
            self.len = kept;
        }
        self.buffer.put_rows(self.len, rows)?;
        self.len += t;
        Ok(())
    }
}

/// Keys, normed and rotated by their position in the text, and values of one attention: [.., m, h] each.
#[derive(Clone)]
pub(super) struct Cache {
    k: Rows,
    v: Rows,
    /// Positions that a query sees, its own included.
    window: usize,
    /// Most positions that are open, or go in at once, or both.
    chunk: usize,
}

impl Cache {
    /// Nothing read yet, for keys and values of shape `row` = [m, h].
    pub fn new(row: &[usize], like: &Tensor, window: usize, chunk: usize) -> Result<Self> {
        Ok(Cache {
            k: Rows::new(row, like)?,
            v: Rows::new(row, like)?,
            window,
            chunk,
        })
    }

    /// Positions that a query sees, its own included.
    pub fn window(&self) -> usize {
        self.window
    }

    /// Bytes of the buffers.
    pub fn bytes(&self) -> usize {
        self.k.bytes() + self.v.bytes()
    }

    /// Positions that are kept of a text of `position` so that the last `open` can be taken back.
    pub fn needed(&self, position: usize, open: usize) -> usize {
        (self.window - 1).saturating_add(open).min(position)
    }

    /// Writes keys and values [t, m, h] behind the others, of which the last `open` may still be taken back.
    pub fn push(&mut self, k: &Tensor, v: &Tensor, open: usize) -> Result<()> {
        let needed = self.needed(usize::MAX, open);
        let most = self.needed(usize::MAX, self.chunk);
        self.k.push(k, needed, most)?;
        self.v.push(v, needed, most)
    }

    /// Takes back the last `t` positions.
    pub fn take_back(&mut self, t: usize) {
        let len = self.k.len() - t;
        self.k.truncate(len);
        self.v.truncate(len);
    }

    /// Keys and values of the last `t` positions.
    pub fn last(&self, t: usize) -> Result<[Tensor; 2]> {
        let end = self.k.len();
        Ok([self.k.rows(end - t, end)?, self.v.rows(end - t, end)?])
    }

    /// Keys and values before the last `t` positions that the first of those sees.
    pub fn before(&self, t: usize) -> Result<[Tensor; 2]> {
        let end = self.k.len() - t;
        let start = end - end.min(self.window - 1);
        Ok([self.k.rows(start, end)?, self.v.rows(start, end)?])
    }
}
