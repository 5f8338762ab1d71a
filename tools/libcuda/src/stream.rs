//! Streams: what is enqueued where, and what waits for what.

use crate::code::{Code, Result, fail};
use crate::driver::{Driver, Handle, Session};
use crate::queue::Need;
use crate::work::Op;

/// A stream.
#[derive(Debug)]
pub struct Stream {
    pub context: Handle,
    /// The default stream, which waits for all blocking streams and they for it.
    pub legacy: bool,
    pub non_blocking: bool,
    pub priority: i32,
    /// Its latest work.
    pub tail: u64,
    /// Simulated time at which its completed work ended, in nanoseconds.
    pub clock: f64,
    /// The capture it takes part in.
    pub capturing: Option<Capturing>,
}

/// A stream's part in a capture.
#[derive(Debug, Clone)]
pub struct Capturing {
    pub capture: u64,
    /// Nodes that the next one comes after.
    pub tips: Vec<Handle>,
}

/// Work that may wait, in all streams together; a device holds about as much.
const DEPTH: usize = 1024;
/// The default stream by number.
const LEGACY: Handle = 1;
/// This thread's default stream by number.
const PER_THREAD: Handle = 2;

impl Stream {
    pub fn new(context: Handle) -> Stream {
        Stream {
            context,
            legacy: false,
            non_blocking: false,
            priority: 0,
            tail: 0,
            clock: 0.0,
            capturing: None,
        }
    }

    /// What waits for its latest work.
    pub fn need(&self) -> Need {
        Need {
            id: self.tail,
            time: self.clock,
        }
    }
}

impl Driver {
    /// The stream that a handle given to a call stands for; its context must be in order.
    pub fn stream(&mut self, handle: Handle) -> Result<Handle> {
        let stream = match handle {
            0 | LEGACY => self.contexts[&self.healthy()?].legacy,
            PER_THREAD => {
                let context = self.healthy()?;
                let thread = std::thread::current().id();
                match self.contexts[&context].per_thread.get(&thread) {
                    Some(stream) => *stream,
                    None => {
                        let stream = self.new_handle();
                        self.streams.insert(stream, Stream::new(context));
                        let context = self.contexts.get_mut(&context).expect("it is current");
                        context.per_thread.insert(thread, stream);
                        stream
                    }
                }
            }
            _ => handle,
        };
        match self.streams.get(&stream) {
            Some(known) => {
                self.check_context(known.context)?;
                Ok(stream)
            }
            None => fail(
                Code::INVALID_HANDLE,
                format!("{handle:#x} is not a stream, or one that was destroyed"),
            ),
        }
    }

    /// Puts work behind all that a stream has; None if it was captured instead.
    pub fn enqueue(&mut self, stream: Handle, op: Op, more: &[Need]) -> Result<Option<u64>> {
        let this = &self.streams[&stream];
        if this.capturing.is_some() {
            self.capture(stream, op)?;
            return Ok(None);
        }
        let context = this.context;
        let mut needs = vec![this.need()];
        needs.extend(more);
        if this.legacy {
            let blocking = |s: &&Stream| s.context == context && !s.non_blocking;
            if let Some(capturing) = self
                .streams
                .values()
                .filter(blocking)
                .find_map(|s| s.capturing.clone())
            {
                self.invalidate(capturing.capture);
                return fail(
                    Code::STREAM_CAPTURE_IMPLICIT,
                    "the default stream would wait for a stream that is being captured",
                );
            }
            needs.extend(self.streams.values().filter(blocking).map(Stream::need));
        } else if !this.non_blocking {
            let legacy = self.contexts[&context].legacy;
            needs.push(self.streams[&legacy].need());
        }
        let id = self.push(stream, op, &needs);
        self.streams.get_mut(&stream).expect("it was found").tail = id;
        Ok(Some(id))
    }
}

impl Session {
    /// Enqueues work; in early mode it is complete at once.
    pub fn submit(&mut self, stream: Handle, op: Op) -> Result<()> {
        self.submit_after(stream, op, &[])
    }

    /// Enqueues work that waits for more than its stream.
    pub fn submit_after(&mut self, stream: Handle, op: Op, more: &[Need]) -> Result<()> {
        let id = self.enqueue(stream, op, more)?;
        self.submitted(stream, id)
    }

    /// What follows when work was enqueued.
    pub fn submitted(&mut self, stream: Handle, id: Option<u64>) -> Result<()> {
        let Some(id) = id else { return Ok(()) };
        let early = self.settings.asynchrony == ptx::Asynchrony::Early;
        if early || self.queue.len() > DEPTH {
            self.complete(&[id]);
        }
        let context = self.streams.get(&stream).map_or(0, |s| s.context);
        self.check_context(context)
    }

    /// Completes all work of a stream and tells what went wrong.
    pub fn finish_stream(&mut self, stream: Handle) -> Result<()> {
        let this = &self.streams[&stream];
        let (context, tail) = (this.context, this.tail);
        if let Some(capturing) = this.capturing.clone() {
            self.invalidate(capturing.capture);
            return fail(
                Code::STREAM_CAPTURE_UNSUPPORTED,
                "a stream that is being captured has no work to wait for",
            );
        }
        let mut targets = vec![tail];
        if this.legacy {
            let blocking = |s: &&crate::stream::Stream| s.context == context && !s.non_blocking;
            targets.extend(self.streams.values().filter(blocking).map(|s| s.tail));
        }
        self.complete(&targets);
        let clock = self.streams.get(&stream).map_or(0.0, |s| s.clock);
        self.now = self.now.max(clock);
        self.check_context(context)
    }

    /// Completes all work of a context.
    pub fn finish_context(&mut self, context: Handle) {
        let targets = self.queue.of_context(context);
        self.complete(&targets);
        let of = |s: &&crate::stream::Stream| s.context == context;
        let clocks = self.streams.values().filter(of).map(|s| s.clock);
        self.now = clocks.fold(self.now, f64::max);
    }
}
