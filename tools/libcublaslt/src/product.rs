//! D = f(alpha op(A) op(B) + beta C + bias): what a call asks for, and the computation.

use crate::element::{Element, to_tf32};
use crate::objects::{Kind, Object};

/// Attributes of a layout (`cublasLtMatrixLayoutAttribute_t`).
mod layout {
    pub const TYPE: i32 = 0;
    pub const ORDER: i32 = 1;
    pub const ROWS: i32 = 2;
    pub const COLS: i32 = 3;
    pub const LD: i32 = 4;
    pub const BATCH: i32 = 5;
    pub const STRIDE: i32 = 6;
}

/// Attributes of a product (`cublasLtMatmulDescAttributes_t`).
mod desc {
    pub const COMPUTE: i32 = 0;
    pub const SCALE: i32 = 1;
    pub const TRANS_A: i32 = 3;
    pub const TRANS_B: i32 = 4;
    pub const EPILOGUE: i32 = 7;
    pub const BIAS: i32 = 8;
    pub const BIAS_STRIDE: i32 = 10;
    pub const SM_COUNT: i32 = 15;
    pub const FAST_ACCUMULATION: i32 = 25;
    pub const BIAS_TYPE: i32 = 26;
}

/// Compute types: f32, and f32 from TF32 factors.
const F32: [i64; 2] = [68, 69];
const TF32: i64 = 77;
/// Bits of an epilogue.
const RELU: i64 = 2;
const BIAS: i64 = 4;
const GELU: i64 = 32;

/// A matrix in memory of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matrix {
    pub element: Element,
    pub rows: usize,
    pub cols: usize,
    /// Elements from one column to the next, or from one row to the next where `by_rows`.
    ld: usize,
    by_rows: bool,
    batch: usize,
    /// Elements from one matrix of the batch to the next.
    stride: i64,
}

/// A product, ready to run.
#[derive(Debug, Clone)]
pub struct Product {
    a: (u64, Matrix),
    b: (u64, Matrix),
    /// None if beta is 0.
    c: Option<(u64, Matrix)>,
    d: (u64, Matrix),
    transposed: [bool; 2],
    alpha: f32,
    beta: f32,
    tf32: bool,
    /// Address, type and stride between batches.
    bias: Option<(u64, Element, i64)>,
    relu: bool,
    gelu: bool,
}

/// Memory of the device.
pub trait Memory {
    /// Values that lie side by side.
    fn read(&self, address: u64, element: Element, count: usize) -> Option<Vec<f32>>;
    /// Replaces values that lie side by side.
    fn write(&self, address: u64, element: Element, values: &[f32]) -> Option<()>;
}

impl Matrix {
    pub fn object(element: i32, rows: u64, cols: u64, ld: i64) -> Object {
        Object::new(Kind::Layout)
            .with(layout::TYPE, &element.to_le_bytes())
            .with(layout::ROWS, &rows.to_le_bytes())
            .with(layout::COLS, &cols.to_le_bytes())
            .with(layout::LD, &ld.to_le_bytes())
    }

    /// What a layout describes, or why it is not served.
    fn new(name: char, object: &Object) -> Result<Matrix, String> {
        let number = object.number(layout::TYPE, 0) as i32;
        let Some(element) = Element::from_number(number) else {
            return Err(format!(
                "{name} has data type {number}; f32, f16 and bf16 are served"
            ));
        };
        let size = |attribute, usual| usize::try_from(object.number(attribute, usual));
        let sizes = (
            size(layout::ROWS, 0),
            size(layout::COLS, 0),
            size(layout::LD, 0),
            size(layout::BATCH, 1),
        );
        let (Ok(rows), Ok(cols), Ok(ld), Ok(batch)) = sizes else {
            return Err(format!("{name} has a negative size"));
        };
        let by_rows = match object.number(layout::ORDER, 0) {
            0 => false,
            1 => true,
            other => {
                return Err(format!(
                    "{name} has order {other}; columns and rows are served"
                ));
            }
        };
        let run = if by_rows { cols } else { rows };
        if ld < run {
            return Err(format!("{name} has runs of {run} elements, {ld} apart"));
        }
        Ok(Matrix {
            element,
            rows,
            cols,
            ld,
            by_rows,
            batch,
            stride: object.number(layout::STRIDE, 0),
        })
    }

    /// Runs of elements that lie side by side, and how long they are.
    fn runs(&self) -> (usize, usize) {
        match self.by_rows {
            true => (self.rows, self.cols),
            false => (self.cols, self.rows),
        }
    }

    /// Address of a run.
    fn address(&self, start: u64, batch: usize, run: usize) -> u64 {
        let elements = self.stride * batch as i64 + (run * self.ld) as i64;
        start.wrapping_add_signed(elements * self.element.bytes() as i64)
    }

    /// Bytes from the first element of the first matrix to behind the last of the last; the stride is not negative.
    fn span(&self) -> usize {
        let (runs, length) = self.runs();
        if runs == 0 || length == 0 || self.batch == 0 {
            return 0;
        }
        let batches = self.stride.unsigned_abs() as usize * (self.batch - 1);
        self.element.bytes() * (batches + (runs - 1) * self.ld + length)
    }

    /// A matrix of the batch, column by column, transposed where asked for.
    fn load(
        &self,
        memory: &impl Memory,
        start: u64,
        batch: usize,
        transposed: bool,
    ) -> Option<Vec<f32>> {
        let (runs, length) = self.runs();
        let mut values = vec![0.0; runs * length];
        for run in 0..runs {
            let read = memory.read(self.address(start, batch, run), self.element, length)?;
            if transposed == self.by_rows {
                values[run * length..][..length].copy_from_slice(&read);
            } else {
                for (i, value) in read.into_iter().enumerate() {
                    values[i * runs + run] = value;
                }
            }
        }
        Some(values)
    }

    /// Writes a matrix that is given column by column.
    fn store(&self, memory: &impl Memory, start: u64, batch: usize, values: &[f32]) -> Option<()> {
        let (runs, length) = self.runs();
        for run in 0..runs {
            let address = self.address(start, batch, run);
            if self.by_rows {
                let row: Vec<f32> = (0..length).map(|i| values[i * runs + run]).collect();
                memory.write(address, self.element, &row)?;
            } else {
                memory.write(address, self.element, &values[run * length..][..length])?;
            }
        }
        Some(())
    }
}

/// What a call gives: the product, the layouts of A, B, C and D, and their addresses.
pub struct Asked<'a> {
    pub desc: &'a Object,
    pub layouts: [&'a Object; 4],
    pub addresses: [u64; 4],
    pub alpha: f32,
    pub beta: f32,
}

impl Product {
    pub fn object(compute: i32, scale: i32) -> Object {
        Object::new(Kind::Product)
            .with(desc::COMPUTE, &compute.to_le_bytes())
            .with(desc::SCALE, &scale.to_le_bytes())
    }

    /// Checks what is asked for.
    ///
    /// # Errors
    /// It does not fit together, or is not served; the message says what.
    pub fn new(asked: &Asked) -> Result<Product, String> {
        let object = asked.desc;
        let compute = object.number(desc::COMPUTE, 68);
        if !F32.contains(&compute) && compute != TF32 {
            return Err(format!(
                "compute type {compute} is not served; f32 and TF32 are"
            ));
        }
        // others must be what they are from the start: scalars of the host, in f32, no scales, C not transposed
        let known = [
            desc::COMPUTE,
            desc::TRANS_A,
            desc::TRANS_B,
            desc::EPILOGUE,
            desc::BIAS,
            desc::BIAS_STRIDE,
            desc::SM_COUNT,
            desc::FAST_ACCUMULATION,
            desc::BIAS_TYPE,
        ];
        for attribute in object.attributes().filter(|a| !known.contains(a)) {
            if object.number(attribute, 0) != 0 {
                return Err(format!(
                    "attribute {attribute} of the product is not served"
                ));
            }
        }
        let [a, b, c, d] = asked.layouts;
        let (a, b) = (Matrix::new('A', a)?, Matrix::new('B', b)?);
        let (c, d) = (Matrix::new('C', c)?, Matrix::new('D', d)?);
        let transposed = [desc::TRANS_A, desc::TRANS_B].map(|t| object.number(t, 0) != 0);
        let shape = |m: &Matrix, t: bool| {
            if t {
                (m.cols, m.rows)
            } else {
                (m.rows, m.cols)
            }
        };
        let ((m, k), (k_of_b, n)) = (shape(&a, transposed[0]), shape(&b, transposed[1]));
        let shapes = || {
            format!(
                "op(A) is {m} x {k}, op(B) {k_of_b} x {n}, C {} x {}, D {} x {}",
                c.rows, c.cols, d.rows, d.cols
            )
        };
        if k != k_of_b || [c.rows, d.rows] != [m; 2] || [c.cols, d.cols] != [n; 2] {
            return Err(shapes());
        }
        if [a, b, c].iter().any(|m| m.batch != d.batch) {
            return Err("the batches differ in length".into());
        }
        if [a, b, c, d].iter().any(|m| m.stride < 0) {
            return Err("a batch has a negative stride".into());
        }
        let epilogue = object.number(desc::EPILOGUE, 1);
        if epilogue & !(1 | RELU | BIAS | GELU) != 0 {
            return Err(format!(
                "epilogue {epilogue} is not served; bias, ReLU and GELU are"
            ));
        }
        let bias_type = object.number(desc::BIAS_TYPE, -1);
        let element = match bias_type {
            -1 => Some(d.element),
            number => Element::from_number(number as i32),
        };
        let Some(element) = element else {
            return Err(format!("a bias of data type {bias_type} is not served"));
        };
        let bias = (epilogue & BIAS != 0).then(|| {
            let address = object.number(desc::BIAS, 0) as u64;
            (address, element, object.number(desc::BIAS_STRIDE, 0))
        });
        let [at_a, at_b, at_c, at_d] = asked.addresses;
        Ok(Product {
            a: (at_a, a),
            b: (at_b, b),
            c: (asked.beta != 0.0).then_some((at_c, c)),
            d: (at_d, d),
            transposed,
            alpha: asked.alpha,
            beta: asked.beta,
            tf32: compute == TF32,
            bias,
            relu: epilogue & RELU != 0,
            gelu: epilogue & GELU != 0,
        })
    }

    /// Where the product reads and writes: addresses and bytes.
    pub fn spans(&self) -> Vec<(u64, usize)> {
        let mut all = vec![
            (self.a.0, self.a.1.span()),
            (self.b.0, self.b.1.span()),
            (self.d.0, self.d.1.span()),
        ];
        all.extend(self.c.map(|(at, c)| (at, c.span())));
        let rows = self.d.1.rows;
        all.extend(
            self.bias
                .map(|(at, element, _)| (at, rows * element.bytes())),
        );
        all
    }

    /// Computes: products of factors in f32, added in the order of k. None if memory is not there.
    pub fn run(&self, memory: &impl Memory) -> Option<()> {
        let d = self.d.1;
        let (m, n) = (d.rows, d.cols);
        for batch in 0..d.batch {
            let load = |(at, matrix): (u64, Matrix), transposed| {
                let mut values = matrix.load(memory, at, batch, transposed)?;
                if self.tf32 && matrix.element == Element::F32 {
                    values.iter_mut().for_each(|v| *v = to_tf32(*v));
                }
                Some(values)
            };
            let a = load(self.a, self.transposed[0])?;
            let b = load(self.b, self.transposed[1])?;
            let c = match self.c {
                Some((at, matrix)) => Some(matrix.load(memory, at, batch, false)?),
                None => None,
            };
            let bias = match self.bias {
                Some((at, element, stride)) => {
                    let offset = stride * batch as i64 * element.bytes() as i64;
                    Some(memory.read(at.wrapping_add_signed(offset), element, m)?)
                }
                None => None,
            };
            let k = a.len().checked_div(m).unwrap_or(0);
            let mut out = vec![0.0f32; m * n];
            for (j, sums) in out.chunks_mut(m.max(1)).enumerate() {
                for p in 0..k {
                    let factor = b[j * k + p];
                    for (sum, a) in sums.iter_mut().zip(&a[p * m..]) {
                        *sum += a * factor;
                    }
                }
                for (i, sum) in sums.iter_mut().enumerate() {
                    let old = c.as_ref().map_or(0.0, |c| self.beta * c[j * m + i]);
                    let bias = bias.as_ref().map_or(0.0, |bias| bias[i]);
                    *sum = self.activate(self.alpha * *sum + old + bias);
                }
            }
            d.store(memory, self.d.0, batch, &out)?;
        }
        Some(())
    }

    fn activate(&self, x: f32) -> f32 {
        let x = if self.relu && x < 0.0 { 0.0 } else { x };
        if !self.gelu {
            return x;
        }
        let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
        0.5 * x * (1.0 + inner.tanh())
    }
}
