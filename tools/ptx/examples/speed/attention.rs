//! The kernel that speed is measured with, `kernels/swa_forward`: its inputs, and what it should give.

use half::bf16;
use ptx::{Arg, Device, Kernel, Launch, Module, Options, Report};

/// Size of a head.
pub const HEAD: usize = 64;

/// The kernel.
pub fn kernel() -> ptx::Result<Kernel> {
    let text = include_str!("../../kernels/swa_forward/swa_forward.ptx");
    Module::parse(text)?.kernel("swa_forward")
}

/// A launch, with its buffers on a device of its own.
pub struct Attention {
    heads: usize,
    length: usize,
    window: usize,
    /// Queries, keys and values: [heads, length, HEAD].
    inputs: [Vec<bf16>; 3],
    device: Device,
    /// Addresses of the output and of the logarithms of the sums.
    results: [u64; 2],
    args: Vec<Arg>,
}

impl Attention {
    pub fn new(heads: usize, length: usize, window: usize) -> ptx::Result<Self> {
        let size = heads * length * HEAD;
        let mut state = 1u64;
        let mut next = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            bf16::from_f32((state >> 40) as f32 / (1u64 << 22) as f32 - 2.0)
        };
        let inputs: [Vec<bf16>; 3] = std::array::from_fn(|_| (0..size).map(|_| next()).collect());
        let mut device = Device::new();
        let mut args: Vec<Arg> = vec![];
        for input in &inputs {
            let bytes: Vec<u8> = input.iter().flat_map(|x| x.to_le_bytes()).collect();
            let address = device.allocate(bytes.len());
            device.write(address, &bytes)?;
            args.push(address.into());
        }
        let results = [
            device.allocate(2 * size),
            device.allocate(4 * heads * length),
        ];
        args.extend(results.map(Arg::from));
        args.extend([Arg::from(length as i32), Arg::from(window as i32)]);
        args.push(Arg::from(std::f32::consts::LOG2_E / (HEAD as f32).sqrt()));
        Ok(Attention {
            heads,
            length,
            window,
            inputs,
            device,
            results,
            args,
        })
    }

    pub fn run(&mut self, kernel: &Kernel, options: &Options) -> ptx::Result<Report> {
        let launch = Launch {
            grid: [self.length.div_ceil(64) as u32, self.heads as u32, 1],
            block: [128, 1, 1],
            dynamic_shared: 5 * 8192,
            ..Launch::linear(1, 1)
        };
        self.device.launch(kernel, &launch, &self.args, options)
    }

    /// Bytes of the output, [heads, length, HEAD] in bf16, and of the logarithms, [heads, length] in f32.
    pub fn results(&self) -> ptx::Result<[Vec<u8>; 2]> {
        let rows = self.heads * self.length;
        let [mut out, mut logarithms] = [vec![0; 2 * rows * HEAD], vec![0; 4 * rows]];
        self.device.read(self.results[0], &mut out)?;
        self.device.read(self.results[1], &mut logarithms)?;
        Ok([out, logarithms])
    }

    /// Largest distance of both results from a computation in f64.
    pub fn errors(&self) -> ptx::Result<[f64; 2]> {
        let [out, logarithms] = self.results()?;
        let [q, k, v] = &self.inputs;
        let row = |of: &[bf16], at: usize| -> [f64; HEAD] {
            std::array::from_fn(|c| f64::from(of[at * HEAD + c].to_f32()))
        };
        let mut errors = [0f64; 2];
        // what is not a number is as far as can be
        let mut note = |which: usize, error: f64| {
            errors[which] = errors[which].max(if error.is_nan() { f64::INFINITY } else { error });
        };
        for head in 0..self.heads {
            for i in 0..self.length {
                let at = head * self.length + i;
                let query = row(q, at);
                let keys = at - i.min(self.window - 1)..=at;
                let score = |key: usize| {
                    let products = query.iter().zip(row(k, key)).map(|(a, b)| a * b);
                    products.sum::<f64>() / (HEAD as f64).sqrt()
                };
                let scores: Vec<f64> = keys.clone().map(score).collect();
                let most = scores.iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - most).exp()).sum();
                let mut want = [0f64; HEAD];
                for (key, s) in keys.zip(&scores) {
                    for (want, value) in want.iter_mut().zip(row(v, key)) {
                        *want += (s - most).exp() / sum * value;
                    }
                }
                for (c, want) in want.iter().enumerate() {
                    let bytes = [0, 1].map(|byte| out[2 * (at * HEAD + c) + byte]);
                    note(
                        0,
                        (f64::from(bf16::from_le_bytes(bytes).to_f32()) - want).abs(),
                    );
                }
                let bytes = std::array::from_fn(|byte| logarithms[4 * at + byte]);
                note(
                    1,
                    (f64::from(f32::from_le_bytes(bytes)) - most - sum.ln()).abs(),
                );
            }
        }
        Ok(errors)
    }
}
