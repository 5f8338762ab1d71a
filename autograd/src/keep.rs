//! What a checkpoint keeps of its first run: the outputs of costly ops, handed out again in the second.
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
    /// The outputs of costly ops ([`Op::costly`]) as well: only what is cheap is computed again.
    Costly,
}

/// The outputs of one op, a `Vec` of its values, and the op's name.
pub(crate) struct Kept {
    op: &'static str,
    y: Box<dyn Any>,
}

enum Frame {
    /// Costly ops are computed and forgotten.
    Nothing,
    /// Their outputs are kept.
    Record(Vec<Kept>),
    /// They are those of the first run, in its order.
    Replay(Rc<[Kept]>, usize),
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
    let pushed = Pushed::new(match keep {
        Keep::Nothing => Frame::Nothing,
        Keep::Costly => Frame::Record(Vec::new()),
    });
    let result = f();
    let kept = match pushed.pop() {
        Frame::Record(kept) => kept.into(),
        _ => Rc::from([]),
    };
    (result, kept)
}

/// A second run of `f`.
pub(crate) fn replay<R>(keep: Keep, kept: &Rc<[Kept]>, f: impl FnOnce() -> R) -> R {
    let _pushed = Pushed::new(match keep {
        Keep::Nothing => Frame::Nothing,
        Keep::Costly => Frame::Replay(kept.clone(), 0),
    });
    f()
}

/// The outputs of an op at these inputs, or those that were kept of them.
pub(crate) fn eval<V: Value>(op: &impl Op<V>, x: &[&V]) -> Result<Vec<V>, V::Error> {
    if !op.costly() {
        return op.eval(x);
    }
    if let Some(y) = recall(op.name())? {
        return Ok(y);
    }
    let y = op.eval(x)?;
    FRAMES.with_borrow_mut(|frames| {
        if let Some(Frame::Record(kept)) = frames.last_mut() {
            let (op, y) = (op.name(), Box::new(y.clone()));
            kept.push(Kept { op, y });
        }
    });
    Ok(y)
}

/// The next outputs of the first run, if this is a second one.
fn recall<V: Value>(op: &'static str) -> Result<Option<Vec<V>>, Error> {
    FRAMES.with_borrow_mut(|frames| {
        let Some(Frame::Replay(kept, next)) = frames.last_mut() else {
            return Ok(None);
        };
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
