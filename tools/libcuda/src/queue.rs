//! Work that is enqueued and not complete. In late mode it waits here until somebody waits for it, and only what that
//! needs is run, in the order in which it was enqueued: a wait that the program forgot shows.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::context::Context;
use crate::driver::{Driver, Handle, Session};
use crate::work::Op;

/// Work that other work comes after: its number, and when it ended if it is complete.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    pub id: u64,
    pub time: f64,
}

struct Queued {
    op: Op,
    stream: Handle,
    context: Handle,
    needs: Vec<u64>,
    /// Simulated time before which it cannot start.
    not_before: f64,
    /// A function of the program is running.
    running: bool,
}

/// All work that is not complete, by number.
#[derive(Default)]
pub struct Queue {
    ops: BTreeMap<u64, Queued>,
    last: u64,
    /// When complete work ended that work in `ops` may wait for.
    ended: HashMap<u64, f64>,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    pub fn is_pending(&self, id: u64) -> bool {
        self.ops.contains_key(&id)
    }

    pub fn of_context(&self, context: Handle) -> Vec<u64> {
        let of = |(_, queued): &(&u64, &Queued)| queued.context == context;
        self.ops.iter().filter(of).map(|(id, _)| *id).collect()
    }

    /// Pending work that these need, themselves included, in order.
    fn needed(&self, targets: &[u64]) -> BTreeSet<u64> {
        let mut needed = BTreeSet::new();
        let mut open = targets.to_vec();
        while let Some(id) = open.pop() {
            if let Some(queued) = self.ops.get(&id)
                && needed.insert(id)
            {
                open.extend(&queued.needs);
            }
        }
        needed
    }
}

impl Driver {
    /// Adds work that comes after other work.
    pub fn push(&mut self, stream: Handle, op: Op, needs: &[Need]) -> u64 {
        self.queue.last += 1;
        let id = self.queue.last;
        let mut not_before = self.now;
        let mut pending = vec![];
        for need in needs {
            if self.queue.is_pending(need.id) {
                pending.push(need.id);
            } else {
                not_before = not_before.max(need.time);
            }
        }
        if let Op::Record(event) = op
            && let Some(event) = self.events.get_mut(&event)
        {
            event.record(id);
        }
        let queued = Queued {
            op,
            stream,
            context: self.streams[&stream].context,
            needs: pending,
            not_before,
            running: false,
        };
        self.queue.ops.insert(id, queued);
        id
    }
}

impl Session {
    /// Completes work and all that it needs.
    pub fn complete(&mut self, targets: &[u64]) {
        for id in self.queue.needed(targets) {
            self.complete_one(id);
        }
    }

    /// Completes one more piece of the work that these need; false if there is none.
    pub fn advance(&mut self, targets: &[u64]) -> bool {
        match self.queue.needed(targets).first() {
            Some(id) => {
                self.complete_one(*id);
                true
            }
            None => false,
        }
    }

    /// Runs a piece of work whose needs are complete, unless another thread did.
    fn complete_one(&mut self, id: u64) {
        while self.queue.ops.get(&id).is_some_and(|q| q.running) {
            self.wait();
        }
        let Some(queued) = self.queue.ops.get(&id) else {
            return;
        };
        let (context, op) = (queued.context, queued.op.clone());
        let in_order = |c: &Context| c.error.is_none();
        let healthy = self.contexts.get(&context).is_some_and(in_order);
        if let Op::Host(call) = op
            && healthy
        {
            let queued = self.queue.ops.get_mut(&id).expect("it was found");
            queued.running = true;
            self.unlocked(|| call.run());
        }
        let queued = self.queue.ops.remove(&id).expect("this thread runs it");
        let ended = queued
            .needs
            .iter()
            .filter_map(|need| self.queue.ended.get(need));
        let start = ended.fold(queued.not_before, |a, b| a.max(*b));
        let time = if healthy { self.run(&op, context) } else { 0.0 };
        let end = start + time;
        if let Op::Record(event) = op
            && let Some(event) = self.events.get_mut(&event)
        {
            event.complete(id, end);
        }
        if let Some(stream) = self.streams.get_mut(&queued.stream) {
            stream.clock = end;
        }
        self.queue.ended.insert(id, end);
        if self.queue.ops.is_empty() {
            self.queue.ended.clear();
        }
    }
}
