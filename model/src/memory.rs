//! What a sequence keeps for its backward pass, and what it computes again, within a budget of memory.
//!
//! Everything that can be computed again is a *unit*: a block of the prefix, or one mini-batch of the suffix with its inner step. A
//! unit keeps everything, or the outputs of its costly ops (products and attention), or only its inputs. Each level down frees
//! memory and costs time; the plan takes the steps down that free most per second first, and no more of them than it needs. If
//! that is not enough, the weights W_i between mini-batches are the rest: runs of mini-batches are then units themselves, so
//! that only every r-th W_i is kept (and the r of one run while it is swept).

use std::fmt;
use std::str::FromStr;

use ops::{DType, Keep};
use serde::{Deserialize, Serialize};

use crate::{Config, Error, Result};

/// An amount of memory: `2GB`, `600 MB`, `1.5GiB`, or a plain number of bytes. 0 asks for as little as possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let size: bytesize::ByteSize = text.parse().map_err(|_| {
            format!("'{text}' is not an amount of memory; write it like 600MB, 2GB or 1.5GiB")
        })?;
        Ok(Bytes(size.as_u64()))
    }
}

impl TryFrom<String> for Bytes {
    type Error = String;
    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<Bytes> for String {
    /// Exactly, so that it reads back as the same.
    fn from(bytes: Bytes) -> String {
        format!("{}B", bytes.0)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bytesize::ByteSize(self.0).display().si().fmt(f)
    }
}

/// What a unit leaves on the tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything: nothing is computed again.
    Everything,
    /// The outputs of costly ops: what is cheap is computed again.
    Costly,
    /// Its inputs: it is computed again as a whole.
    Inputs,
}

impl Level {
    /// What its checkpoint keeps; `None`: there is none.
    pub fn keep(self) -> Option<Keep> {
        match self {
            Level::Everything => None,
            Level::Costly => Some(Keep::Costly),
            Level::Inputs => Some(Keep::Nothing),
        }
    }
}

/// What each unit of a sequence keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Blocks of the prefix, first to last; one that is not in the list keeps everything.
    pub prefix: Vec<Level>,
    /// Mini-batches, first to last; one that is not in the list keeps everything.
    pub steps: Vec<Level>,
    /// r: mini-batches per run; with 1 every W_i is kept.
    pub segment: usize,
    /// What a sequence is expected to take at its largest: its tape, cotangents and gradients, without the weights themselves and
    /// without the free buffers that wait for reuse (about a tenth more).
    pub bytes: Bytes,
}

/// Bytes and FLOPs of one kind of unit.
#[derive(Debug, Clone, Copy)]
struct Unit {
    /// How many there are.
    count: usize,
    /// Bytes at each level.
    everything: f64,
    costly: f64,
    inputs: f64,
    /// FLOPs to compute it again from its inputs, and those that a second look at its cheap ops is worth.
    again: f64,
    cheap: f64,
}

/// Cheap ops move memory: per element of what is computed again, about this many FLOPs of products could have been done
/// instead. Only the order of the steps down depends on it.
const FLOPS_PER_ELEMENT: f64 = 60.0;

impl Plan {
    /// Nothing is computed again.
    pub fn everything() -> Self {
        Plan {
            prefix: vec![],
            steps: vec![],
            segment: 1,
            bytes: Bytes(0),
        }
    }

    /// The cheapest plan for a sequence of `t` tokens in mini-batches of `b` whose tape takes at most `budget`; with a budget of
    /// 0 the smallest there is.
    ///
    /// Errors: the smallest is larger than a budget that is not 0.
    pub fn within(
        config: &Config,
        dtype: DType,
        t: usize,
        b: usize,
        budget: Bytes,
    ) -> Result<Self> {
        let sizes = Sizes::of(config, dtype, t, b);
        let mut plan = Plan::everything();
        plan.prefix = vec![Level::Everything; sizes.block.count];
        plan.steps = vec![Level::Everything; sizes.step.count];
        plan.bytes = sizes.bytes(&plan);
        // steps down, those that free most per FLOP first; later units stay as they are longest, since they are swept first
        let mut moves = vec![];
        for (prefix, unit) in [(true, sizes.block), (false, sizes.step)] {
            let costly = (unit.everything - unit.costly) / unit.cheap;
            let inputs = (unit.costly - unit.inputs) / (unit.again - unit.cheap);
            moves.push((costly, prefix, Level::Costly));
            moves.push((inputs, prefix, Level::Inputs));
        }
        moves.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, prefix, level) in moves {
            let unit = if prefix { sizes.block } else { sizes.step };
            for i in 0..unit.count {
                if plan.bytes <= budget {
                    return Ok(plan);
                }
                let levels = match prefix {
                    true => &mut plan.prefix,
                    false => &mut plan.steps,
                };
                levels[i] = level.max(levels[i]);
                plan.bytes = sizes.bytes(&plan);
            }
        }
        let smaller = |segment: usize| {
            let mut plan = plan.clone();
            plan.segment = segment;
            plan.bytes = sizes.bytes(&plan);
            plan
        };
        let longest = sizes.step.count.isqrt().max(1);
        let runs = (1..=longest).map(smaller);
        if let Some(plan) = runs.clone().find(|plan| plan.bytes <= budget) {
            return Ok(plan);
        }
        let least = runs.min_by_key(|plan| plan.bytes).unwrap_or(plan);
        match budget {
            Bytes(0) => Ok(least),
            _ => {
                let message = format!(
                    "is too little for a sequence of {t} tokens: its backward pass needs at least {}; \
                     raise it, or shorten the sequences, or give 0 for as little as possible",
                    least.bytes
                );
                Err(Error::setting("memory", budget, message))
            }
        }
    }
}

/// The units of one sequence, and what is there in any case.
struct Sizes {
    block: Unit,
    step: Unit,
    /// Embeddings, the suffix's inputs and their cotangents, gradients, and what is there while one unit is swept.
    base: f64,
    /// The weights and keys that one mini-batch hands to the next.
    state: f64,
}

impl Sizes {
    fn of(c: &Config, dtype: DType, t: usize, b: usize) -> Self {
        let size = dtype.size() as f64;
        let (d, f, v) = (
            c.hidden_size as f64,
            c.intermediate_size as f64,
            c.vocab_size as f64,
        );
        let a = (c.num_attention_heads * c.head_dim()) as f64;
        let e = (c.kv_heads() * c.head_dim()) as f64;
        let fast = c.fast_layers() as f64;
        let b = b.min(t);
        let steps = t.div_ceil(b);
        let (t_, b_) = (t as f64, b as f64);
        // elements per token of one attention and one MLP: everything, and the outputs of costly ops
        let attention = [3.0 * d + 3.0 * a + 3.0 * e, d + 2.0 * a + 2.0 * e];
        let mlp = [3.0 * d + 2.0 * f, d + 2.0 * f];
        // their products, per token
        let keys = |t: f64| (t + 1.0).min(c.window() as f64) / 2.0;
        let attention_flops = |keys: f64| 2.0 * d * (2.0 * a + 2.0 * e) + 4.0 * a * keys;
        let mlp_flops = 6.0 * d * f;
        let cheap = |n: [f64; 2]| FLOPS_PER_ELEMENT * (n[0] - n[1]);
        let [block, block_costly] = [0, 1].map(|i| attention[i] + mlp[i]);
        let block = Unit {
            count: c.first_fast(),
            everything: size * t_ * block,
            costly: size * t_ * block_costly,
            inputs: size * t_ * d,
            again: t_ * (attention_flops(keys(t_)) + mlp_flops),
            cheap: t_ * cheap([block, block_costly]),
        };
        // forward and inner backward: each op of the one has its counterpart in the other
        let learns = c.ttt.is_some();
        let twice = if learns { 2.0 } else { 1.0 };
        let later = (fast - 1.0).max(0.0);
        let head = [2.0 * d + twice * v, d + v];
        let [step, step_costly] =
            [0, 1].map(|i| twice * (later * attention[i] + 2.0 * fast * mlp[i]) + head[i]);
        let weights = 3.0 * d * f * fast;
        let window = (c.window() - 1).min(t - b) as f64;
        let state = size * (weights + 2.0 * later * e * window);
        // gradients of the fast matrices, as pairs or multiplied out
        let gradients = if learns { size * weights } else { 0.0 };
        let step = Unit {
            count: steps,
            everything: size * b_ * step + gradients + state,
            costly: size * b_ * step_costly + gradients,
            inputs: 0.0,
            again: b_
                * (twice * (later * attention_flops(keys(t_)) + 2.0 * fast * mlp_flops)
                    + 4.0 * d * v),
            cheap: b_ * cheap([step, step_costly]),
        };
        // what is there while a unit is swept: cotangents and scratch, about twice the tape of a block; gradients of all
        // parameters; rows that wait in sums of thin products, those of the suffix
        let per_block = 2.0 * d * (a + e) + 3.0 * d * f;
        let blocks = c.num_hidden_layers as f64;
        let parameters = size * (blocks * per_block + weights + 2.0 * d * v);
        let widths = fast * 6.0 * (d + f) + later * 4.0 * (d + a.max(e)) + d + v;
        let waiting = if learns && b <= 512 {
            size * 2048.0 * widths
        } else {
            0.0
        };
        Sizes {
            base: size * t_ * 4.0 * d + 2.0 * block.everything + parameters + waiting,
            block,
            step,
            state,
        }
    }

    /// The most that is alive at once: what is kept, and the largest unit that is computed again, with its cotangents.
    fn bytes(&self, plan: &Plan) -> Bytes {
        let kept = |unit: &Unit, level: &Level| match level {
            Level::Everything => unit.everything,
            Level::Costly => unit.costly,
            Level::Inputs => unit.inputs,
        };
        let blocks: f64 = plan.prefix.iter().map(|l| kept(&self.block, l)).sum();
        let steps: f64 = plan.steps.iter().map(|l| kept(&self.step, l)).sum();
        let runs = plan.steps.len().div_ceil(plan.segment) as f64;
        let (steps, states) = match plan.segment {
            1 => (steps, runs),
            r => (steps / runs, runs + r as f64),
        };
        let again = |levels: &[Level], unit: &Unit| match levels.contains(&Level::Everything) {
            true => 0.0,
            false => unit.everything,
        };
        let again = again(&plan.prefix, &self.block).max(again(&plan.steps, &self.step));
        Bytes((self.base + blocks + steps + states * self.state + again) as u64)
    }
}
