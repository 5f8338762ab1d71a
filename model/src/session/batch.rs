//! Many sessions at once over one copy of the weights.
//!
//! Each has its own fast weights, window and position, and reads and writes what it would alone, up to rounding. Where weights are
//! shared the rows of all sessions are one product; where they are not, sessions run side by side.

use std::sync::Arc;

use ops::{Device, values};
use rayon::prelude::*;

use super::state::Part;
use super::{Base, Session};
use crate::{Error, Result};

/// Sessions that write side by side on one thread, where the model is so small that their products are work for no more: with what
/// they know they fit into caches, and are enough rows for products at full speed.
const GROUP: usize = 16;
/// FLOPs of a product from which on it is shared among threads.
const LARGE: usize = 1 << 23;

/// Logits of the token that comes next in each session, V of them.
///
/// Errors: sessions over different [`Base`]s; one that has read nothing yet. Nothing has changed then.
pub fn logits(sessions: &mut [Session]) -> Result<Vec<Vec<f64>>> {
    let Some(base) = sessions.first().map(|s| s.base.clone()) else {
        return Ok(vec![]);
    };
    let mut ids = vec![];
    for (i, session) in sessions.iter().enumerate() {
        if !Arc::ptr_eq(&session.base, &base) {
            let message =
                "has another base than the first; start all sessions of a batch with the same one";
            return Err(Error::setting("session", i, message));
        }
        if session.state.next.is_some() {
            continue;
        }
        let Some(last) = session.state.last else {
            let message =
                "a session needs at least one token to predict the next from; read something first";
            return Err(Error::setting("tokens", 0, message));
        };
        ids.push(last);
    }
    let asked = |s: &&mut Session| s.state.next.is_none();
    let asked: Vec<&mut Session> = sessions.iter_mut().filter(asked).collect();
    if !asked.is_empty() {
        let device = base.head().device();
        device.graph(|| one_more(&base, &ids, asked))??;
    }
    let next = sessions.iter().filter_map(|s| s.state.next.as_ref());
    next.map(|logits| Ok(logits.to(Device::Cpu)?.to_f64s()))
        .collect()
}

/// Takes the last token `ids[i]` of each session in, for the logits of the next.
fn one_more(base: &Base, ids: &[u32], mut sessions: Vec<&mut Session>) -> Result<()> {
    let angles = base.angles(sessions.iter().map(|s| s.state.inputs))?;
    let mut parts: Vec<Part<'_>> = (sessions.iter_mut().enumerate())
        .map(|(i, session)| Part {
            state: &mut session.state,
            rows: i..i + 1,
        })
        .collect();
    let h = base.prefix(ids, &angles, &mut parts)?;
    let y = base.suffix(h.clone(), &angles, &mut parts)?;
    // in the type of the weights: bf16 would round logits coarsely
    let logits = values::linear(&values::cast(&y, base.dtype())?, base.head())?;
    for (i, session) in sessions.into_iter().enumerate() {
        session.open(&h.rows(i, i + 1)?)?;
        session.state.inputs += 1;
        session.state.last = None;
        session.state.next = Some(logits.rows(i, i + 1)?);
    }
    Ok(())
}

/// Each session reads tokens of its own, side by side: what [`Session::read`] gives for each.
///
/// Errors: not one run of tokens per session, before anything is read; those of [`Session::read`], the first of them.
pub fn read(sessions: &mut [Session], tokens: &[&[u32]]) -> Result<Vec<Vec<f64>>> {
    if sessions.len() != tokens.len() {
        let message = format!("must be one for each of {} sessions", sessions.len());
        return Err(Error::setting("tokens", tokens.len(), message));
    }
    let device = sessions.first().map_or(Device::Cpu, Session::device);
    let mut pairs: Vec<_> = sessions.iter_mut().zip(tokens).collect();
    let losses = device.map(&mut pairs, |(session, tokens)| session.read(tokens));
    losses.into_iter().collect()
}

/// Each session writes `count` tokens and reads them while it writes: `choose[i]` makes the next token of session i from its logits.
/// Sessions with a small model go in groups, each through all of its tokens, so that what they know stays in caches; with a large
/// one, whose weights matter more, all go together.
///
/// Errors: not one `choose` per session; those of [`logits`] and [`read`], and of `choose`.
pub fn write<C>(sessions: &mut [Session], choose: &mut [C], count: usize) -> Result<Vec<Vec<u32>>>
where
    C: FnMut(&[f64]) -> Result<u32> + Send,
{
    if sessions.len() != choose.len() {
        let message = format!("must be one for each of {} sessions", sessions.len());
        return Err(Error::setting("choose", choose.len(), message));
    }
    let group = match sessions.first() {
        Some(session) if is_small(&session.base, sessions.len()) => GROUP,
        _ => sessions.len().max(1),
    };
    let one = |(sessions, choose): (&mut [Session], &mut [C])| {
        let mut written = vec![vec![]; sessions.len()];
        for _ in 0..count {
            let mut next = vec![];
            for (logits, choose) in logits(sessions)?.iter().zip(choose.iter_mut()) {
                next.push([choose(logits)?]);
            }
            let tokens: Vec<&[u32]> = next.iter().map(|id| &id[..]).collect();
            read(sessions, &tokens)?;
            for (written, [id]) in written.iter_mut().zip(next) {
                written.push(id);
            }
        }
        Ok(written)
    };
    let groups = sessions
        .par_chunks_mut(group)
        .zip(choose.par_chunks_mut(group));
    let written: Vec<Result<Vec<Vec<u32>>>> = groups.map(one).collect();
    Ok(written.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

/// True if products of so many rows stay on one thread each.
fn is_small(base: &Base, rows: usize) -> bool {
    let d = base.config.hidden_size;
    base.head().device() == Device::Cpu && 2 * rows * d * d < LARGE
}
