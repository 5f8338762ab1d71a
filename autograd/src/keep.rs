//! What a checkpoint keeps of its first run: the outputs of ops that cost much, handed out again in the second.
//!
//! Every run of a checkpointed function has a frame of its own on a stack. Ops look at the topmost frame only, so what happens
//! inside a nested checkpoint is that checkpoint's affair in both runs.

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;

use crate::error::Error;
use crate::op::{Op, Value};

/// What a [`checkpoint`](crate::checkpoint) keeps from its first run to its second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Inputs and outputs only: everything inside is computed again.
    Nothing,
    /// The outputs of dear ops ([`Op::cost`]) as well.
    Dear,
    /// The outputs of costly and of dear ops as well: only what is cheap is computed again.
    Costly,
}

/// What an op costs, beside the memory its outputs take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// A pass over memory.
    Cheap,
    /// Much more: a product of matrices, say.
    Costly,
    /// Much more again: attention over a long window.
    Dear,
}

impl Keep {
    /// The least cost that is kept.
    fn least(self) -> Option<Cost> {
        match self {
            Keep::Nothing => None,
            Keep::Dear => Some(Cost::Dear),
            Keep::Costly => Some(Cost::Costly),
        }
    }
}

/// The outputs of one op, a `Vec` of its values, and the op's name.
pub(crate) struct Kept {
    op: &'static str,
    y: Box<dyn Any>,
}

enum Frame {
    /// Everything is computed and forgotten.
    Nothing,
    /// Outputs that cost so much are kept.
    Record(Cost, Vec<Kept>),
    /// They are those of the first run, in its order.
    Replay(Cost, Rc<[Kept]>, usize),
}

thread_local!(static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) });

/// Takes the frame away again when a run ends, by an error or a panic, too.
struct Pushed;

impl Pushed {
    fn new(frame: Frame) -> Self {
        FRAMES.with_borrow_mut(|frames| frames.push(frame));
        Pushed
    }

    fn pop(self) -> Frame {
        std::mem::forget(self);
        FRAMES
            .with_borrow_mut(Vec::pop)
            .expect("every run pops what it pushed")
    }
}

impl Drop for Pushed {
    fn drop(&mut self) {
        FRAMES.with_borrow_mut(|frames| frames.pop());
    }
}

/// A first run of `f`, and what is kept of it.
pub(crate) fn record<R>(keep: Keep, f: impl FnOnce() -> R) -> (R, Rc<[Kept]>) {
    let pushed = Pushed::new(match keep.least() {
        None => Frame::Nothing,
        Some(least) => Frame::Record(least, Vec::new()),
    });
    let result = f();
    let kept = match pushed.pop() {
        Frame::Record(_, kept) => kept.into(),
        _ => Rc::from([]),
    };
    (result, kept)
}

/// A second run of `f`.
pub(crate) fn replay<R>(keep: Keep, kept: &Rc<[Kept]>, f: impl FnOnce() -> R) -> R {
    let _pushed = Pushed::new(match keep.least() {
        None => Frame::Nothing,
        Some(least) => Frame::Replay(least, kept.clone(), 0),
    });
    f()
}

/// The outputs of an op at these inputs, or those that were kept of them.
pub(crate) fn eval<V: Value>(op: &impl Op<V>, x: &[&V]) -> Result<Vec<V>, V::Error> {
    let cost = op.cost();
    if cost == Cost::Cheap {
        return op.eval(x);
    }
    if let Some(y) = recall(op.name(), cost)? {
        return Ok(y);
    }
    let y = op.eval(x)?;
    FRAMES.with_borrow_mut(|frames| {
        if let Some(Frame::Record(least, kept)) = frames.last_mut()
            && cost >= *least
        {
            let (op, y) = (op.name(), Box::new(y.clone()));
            kept.push(Kept { op, y });
        }
    });
    Ok(y)
}

/// The next outputs of the first run, if this is a second one.
fn recall<V: Value>(op: &'static str, cost: Cost) -> Result<Option<Vec<V>>, Error> {
    FRAMES.with_borrow_mut(|frames| {
        let Some(Frame::Replay(least, kept, next)) = frames.last_mut() else {
            return Ok(None);
        };
        if cost < *least {
            return Ok(None);
        }
        let first = kept.get(*next);
        *next += 1;
        let y = first.filter(|first| first.op == op);
        match y.and_then(|first| first.y.downcast_ref::<Vec<V>>()) {
            Some(y) => Ok(Some(y.clone())),
            None => Err(Error::Replay {
                first: first.map(|first| first.op),
                second: op,
            }),
        }
    })
}
