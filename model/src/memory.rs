//! What a sequence keeps for its backward pass, and what it computes again, within a budget of memory.
//!
//! A sequence is read a *piece* at a time, so that what a sweep needs of one block is bounded at any length. Everything that can be
//! computed again is a *unit*: a block of the prefix over one piece, or one mini-batch of the suffix with its inner step. A
//! unit keeps everything, or the outputs of its costly ops (products and attention), or of the dear ones (attention), or only its
//! inputs. Each level down frees memory and costs time; the plan takes the steps down that free most per second first,
//! and no more of them than it needs. If that is not enough, the weights W_i between mini-batches are the rest: runs of
//! mini-batches are then units themselves, so that only every r-th W_i is kept (and the r of one run while it is swept).

use std::fmt;
use std::str::FromStr;

use ops::{DType, Keep};
use serde::{Deserialize, Serialize};

use crate::flops::{PerToken, mean_keys};
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
    /// The outputs of attention.
    Dear,
    /// Its inputs: it is computed again as a whole.
    Inputs,
}

const LEVELS: [Level; 4] = [Level::Everything, Level::Costly, Level::Dear, Level::Inputs];

impl Level {
    /// What its checkpoint keeps; `None`: there is none.
    pub fn keep(self) -> Option<Keep> {
        match self {
            Level::Everything => None,
            Level::Costly => Some(Keep::Costly),
            Level::Dear => Some(Keep::Dear),
            Level::Inputs => Some(Keep::Nothing),
        }
    }
}

/// What each unit of a sequence keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Tokens read at a time, a multiple of b. It depends on shapes alone: no budget changes a bit of the loss.
    pub piece: usize,
    /// Attentions of the prefix, each with the MLP that follows it there, first to last, piece after piece; one that is not in the
    /// list keeps everything.
    pub prefix: Vec<Level>,
    /// Mini-batches, first to last; one that is not in the list keeps everything.
    pub steps: Vec<Level>,
    /// r: mini-batches per run; with 1 every W_i is kept.
    pub segment: usize,
    /// What a sequence is expected to take at its largest: its tape, cotangents and gradients, without the weights themselves and
    /// without the free buffers that wait for reuse (about a tenth more).
    pub bytes: Bytes,
}

/// Bytes that one kind of unit keeps at each level, and the FLOPs to compute the rest again.
#[derive(Debug, Clone, Copy)]
struct Unit {
    bytes: [f64; 4],
    again: [f64; 4],
}

/// A kind of unit.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// A block of the prefix over one piece.
    Block,
    /// The attention of the first fast block over one piece.
    Attention,
    /// A mini-batch.
    Step,
}

/// Cheap ops move memory: per element of what is computed again, about this many FLOPs of products could have been done
/// instead. Only the order of the steps down depends on it.
const FLOPS_PER_ELEMENT: f64 = 60.0;

/// A piece is at least this many tokens: enough that products are large, and that keys of the piece before it, which are rotated
/// again, are few.
const PIECE: usize = 4096;

/// Tokens read at a time: as many as the largest window or [`PIECE`], in whole mini-batches if there are any.
fn piece(config: &Config, t: usize, b: Option<usize>) -> usize {
    let piece = config.window().max(PIECE).min(t);
    b.map_or(piece, |b| piece.next_multiple_of(b.min(t)))
}

impl Unit {
    /// The steps down from level to level that are worth taking, with the bytes that each frees per FLOP: those on the convex
    /// hull of bytes over FLOPs.
    fn moves(&self) -> Vec<(f64, Level)> {
        let mut moves = vec![];
        let mut at = 0;
        let rate = |from: usize, to: usize| {
            let freed = self.bytes[from] - self.bytes[to];
            freed / (self.again[to] - self.again[from]).max(1.0)
        };
        while let Some(best) =
            (at + 1..LEVELS.len()).max_by(|&i, &j| rate(at, i).total_cmp(&rate(at, j)))
        {
            moves.push((rate(at, best), LEVELS[best]));
            at = best;
        }
        moves
    }
}

impl Plan {
    /// Nothing is computed again.
    pub fn everything(config: &Config, t: usize, b: Option<usize>) -> Self {
        Plan {
            piece: piece(config, t, b),
            prefix: vec![],
            steps: vec![],
            segment: 1,
            bytes: Bytes(0),
        }
    }

    /// The cheapest plan for a sequence of `t` tokens in mini-batches of `b` whose tape takes at most `budget`; with a budget of
    /// 0 the smallest there is. Without `b` nothing is learned, and a piece is read as one mini-batch.
    ///
    /// Errors: the smallest is larger than a budget that is not 0.
    pub fn within(
        config: &Config,
        dtype: DType,
        t: usize,
        b: Option<usize>,
        budget: Bytes,
    ) -> Result<Self> {
        let mut plan = Plan::everything(config, t, b);
        let sizes = Sizes::of(config, dtype, t, b, plan.piece);
        let b = b.unwrap_or(plan.piece).min(t);
        plan.prefix = vec![Level::Everything; sizes.attentions * t.div_ceil(plan.piece)];
        plan.steps = vec![Level::Everything; t.div_ceil(b)];
        plan.bytes = sizes.bytes(&plan);
        // steps down, those that free most per FLOP first; later units stay as they are longest, since they are swept first
        let mut moves = vec![];
        for kind in [Kind::Block, Kind::Attention, Kind::Step] {
            let of_kind = sizes.unit(kind).moves().into_iter();
            moves.extend(of_kind.map(|(rate, level)| (rate, kind, level)));
        }
        moves.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, kind, level) in moves {
            let count = match kind {
                Kind::Step => plan.steps.len(),
                _ => plan.prefix.len(),
            };
            for i in (0..count).filter(|&i| kind == Kind::Step || sizes.kind(i) == kind) {
                if plan.bytes <= budget {
                    return Ok(plan);
                }
                match kind {
                    Kind::Step => plan.steps[i] = level,
                    _ => plan.prefix[i] = level,
                }
                plan.bytes = sizes.bytes(&plan);
            }
        }
        let smaller = |segment: usize| {
            let mut plan = plan.clone();
            plan.segment = segment;
            plan.bytes = sizes.bytes(&plan);
            plan
        };
        // a run ends with its piece
        let longest = plan.steps.len().isqrt().min(plan.piece / b).max(1);
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
    /// Attentions of the prefix, and how many of them have an MLP in it.
    attentions: usize,
    blocks: usize,
    block: Unit,
    attention: Unit,
    step: Unit,
    /// Embeddings, the suffix's inputs and their cotangents, gradients, and what is there while one unit is swept.
    base: f64,
    /// The weights and keys that one mini-batch hands to the next.
    state: f64,
}

impl Sizes {
    fn of(c: &Config, dtype: DType, t: usize, b: Option<usize>, piece: usize) -> Self {
        let learns = b.is_some();
        let b = b.unwrap_or(piece).min(t);
        let size = dtype.size() as f64;
        let (d, f, v) = (
            c.hidden_size as f64,
            c.intermediate_size as f64,
            c.vocab_size as f64,
        );
        let a = (c.num_attention_heads * c.head_dim()) as f64;
        let e = (c.kv_heads() * c.head_dim()) as f64;
        let fast = c.fast_layers() as f64;
        let later = (fast - 1.0).max(0.0);
        let tokens = piece.min(t) as f64;
        let window = c.window().saturating_sub(1);
        // FLOPs per token
        let flops = PerToken::of(c);
        let keys: f64 = c.windows().map(|k| mean_keys(t, k)).sum();
        let scores = 2.0 * flops.per_key * keys / c.num_hidden_layers as f64;
        // elements per token that one attention and one MLP keep
        let attention = [
            3.0 * d + 3.0 * a + 3.0 * e,
            d + 2.0 * a + 2.0 * e,
            a + c.num_attention_heads as f64,
            0.0,
        ];
        let mlp = [3.0 * d + 2.0 * f, d + 2.0 * f, 0.0, 0.0];
        let unit =
            |elements: [f64; 4], fixed: [f64; 4], products: f64, scores: f64, tokens: f64| {
                let cheap = FLOPS_PER_ELEMENT * (elements[0] - elements[1]);
                let again = [0.0, cheap, cheap + products, cheap + products + scores];
                Unit {
                    bytes: [0, 1, 2, 3].map(|i| tokens * size * elements[i] + fixed[i]),
                    again: again.map(|flops| tokens * flops),
                }
            };
        // a unit of the prefix under a checkpoint keeps its input, and the keys and values that it hands on
        let handed = if piece < t {
            size * 2.0 * e * window.min(piece) as f64
        } else {
            0.0
        };
        let inputs = tokens * size * d + handed;
        let in_prefix = [handed, inputs, inputs, inputs];
        let both = [0, 1, 2, 3].map(|i| attention[i] + mlp[i]);
        let block = unit(
            both,
            in_prefix,
            flops.projections + flops.mlp,
            scores,
            tokens,
        );
        let alone = unit(attention, in_prefix, flops.projections, scores, tokens);
        // forward and inner backward: each op of the one has its counterpart in the other
        let twice = if learns { 2.0 } else { 1.0 };
        let head = [2.0 * d + twice * v, d + v, 0.0, 0.0];
        let mut of_step =
            [0, 1, 2, 3].map(|i| twice * (later * attention[i] + 2.0 * fast * mlp[i]) + head[i]);
        if learns {
            // what is dear of the inner backward pass is dq, dk and dv
            of_step[Level::Dear as usize] += later * (2.0 * e - c.num_attention_heads as f64);
        }
        let products = twice * (later * flops.projections + 2.0 * fast * flops.mlp + flops.head);
        let weights = 3.0 * d * f * fast;
        // new weights, and gradients of the fast matrices, as pairs or multiplied out
        let gradients = if learns { size * weights } else { 0.0 };
        let state = gradients + size * 2.0 * later * e * window.min(t - b) as f64;
        let fixed = [gradients + state, gradients, 0.0, 0.0];
        let step = unit(of_step, fixed, products, twice * later * scores, b as f64);
        // what is there while a unit is swept: cotangents and scratch, about twice the tape of a block; gradients of all
        // parameters; rows that wait in sums of thin products, those of the suffix
        let per_block = 2.0 * d * (a + e) + 3.0 * d * f;
        let parameters = size * (c.num_hidden_layers as f64 * per_block + weights + 2.0 * d * v);
        let widths = fast * 6.0 * (d + f) + later * 4.0 * (d + a.max(e)) + d + v;
        let waiting = if learns && b <= 512 {
            size * 2048.0 * widths
        } else {
            0.0
        };
        let suffix_inputs = size * d * (2.0 * t as f64 + 2.0 * tokens);
        Sizes {
            attentions: (c.first_fast() + 1).min(c.num_hidden_layers),
            blocks: c.first_fast(),
            base: suffix_inputs + 2.0 * block.bytes[0] + parameters + waiting,
            block,
            attention: alone,
            step,
            state,
        }
    }

    /// What the i-th attention of the prefix belongs to, counted piece after piece.
    fn kind(&self, i: usize) -> Kind {
        match i % self.attentions < self.blocks {
            true => Kind::Block,
            false => Kind::Attention,
        }
    }

    fn unit(&self, kind: Kind) -> &Unit {
        match kind {
            Kind::Block => &self.block,
            Kind::Attention => &self.attention,
            Kind::Step => &self.step,
        }
    }

    /// The most that is alive at once: what is kept, and the largest unit that is computed again, with its cotangents.
    fn bytes(&self, plan: &Plan) -> Bytes {
        let kept = |kind: Kind, level: Level| self.unit(kind).bytes[level as usize];
        let prefix = plan.prefix.iter().enumerate();
        let prefix: f64 = prefix.map(|(i, &level)| kept(self.kind(i), level)).sum();
        let steps: f64 = plan
            .steps
            .iter()
            .map(|&level| kept(Kind::Step, level))
            .sum();
        let runs = plan.steps.len().div_ceil(plan.segment) as f64;
        let (steps, states) = match plan.segment {
            1 => (steps, runs),
            r => (steps / runs, runs + r as f64),
        };
        let again = |levels: &[Level], unit: &Unit| match levels.contains(&Level::Everything) {
            true => 0.0,
            false => unit.bytes[0],
        };
        let again = again(&plan.prefix, &self.block).max(again(&plan.steps, &self.step));
        Bytes((self.base + prefix + steps + states * self.state + again) as u64)
    }
}
