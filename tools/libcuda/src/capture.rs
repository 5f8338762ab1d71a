//! Captures: what streams are given becomes nodes of a graph.

use std::thread::ThreadId;

use crate::code::{Code, Result, fail};
use crate::driver::{Driver, Handle};
use crate::graph::{Node, Nodes, ancestors};
use crate::stream::Capturing;
use crate::work::Op;

/// A capture that is going on.
pub struct Capture {
    pub graph: Handle,
    /// The stream that began it.
    origin: Handle,
    mode: i32,
    thread: ThreadId,
    invalid: bool,
}

/// Capture modes: other threads, or nobody, may call what could disturb it.
const GLOBAL: i32 = 0;
const THREAD_LOCAL: i32 = 1;
const RELAXED: i32 = 2;

impl Driver {
    /// Begins to capture a stream, into a graph behind some of its nodes.
    pub fn begin_capture(
        &mut self,
        stream: Handle,
        mode: i32,
        graph: Handle,
        tips: Vec<Handle>,
    ) -> Result<()> {
        let this = &self.streams[&stream];
        if this.legacy {
            return fail(
                Code::STREAM_CAPTURE_UNSUPPORTED,
                "the default stream cannot be captured; create a stream",
            );
        }
        if this.capturing.is_some() {
            return fail(Code::ILLEGAL_STATE, "the stream is being captured already");
        }
        if !(GLOBAL..=RELAXED).contains(&mode) {
            return fail(Code::INVALID_VALUE, format!("{mode} is no capture mode"));
        }
        let capture = self.new_handle() as u64;
        let made = Capture {
            graph,
            origin: stream,
            mode,
            thread: std::thread::current().id(),
            invalid: false,
        };
        self.captures.insert(capture, made);
        let this = self.streams.get_mut(&stream).expect("it was found");
        this.capturing = Some(Capturing { capture, tips });
        Ok(())
    }

    /// Ends the capture that a stream began and returns its graph.
    pub fn end_capture(&mut self, stream: Handle) -> Result<Handle> {
        let Some(Capturing { capture, tips }) = self.streams[&stream].capturing.clone() else {
            return fail(Code::ILLEGAL_STATE, "the stream is not being captured");
        };
        let this = &self.captures[&capture];
        if this.origin != stream {
            return fail(
                Code::STREAM_CAPTURE_UNMATCHED,
                "another stream began this capture",
            );
        }
        if this.mode != RELAXED && this.thread != std::thread::current().id() {
            return fail(
                Code::STREAM_CAPTURE_WRONG_THREAD,
                "another thread began this capture",
            );
        }
        let this = self.captures.remove(&capture).expect("it was found");
        let joined = ancestors(&self.graphs[&this.graph].nodes, &tips);
        let mut unjoined = false;
        for stream in self.streams.values_mut() {
            if stream
                .capturing
                .as_ref()
                .is_some_and(|c| c.capture == capture)
            {
                let part = stream.capturing.take().expect("it is part of this capture");
                unjoined |= part.tips.iter().any(|tip| !joined.contains(tip));
            }
        }
        if this.invalid || unjoined {
            self.destroy_graph(this.graph)?;
            return match this.invalid {
                true => fail(
                    Code::STREAM_CAPTURE_INVALIDATED,
                    "an earlier call spoiled the capture",
                ),
                false => fail(
                    Code::STREAM_CAPTURE_UNJOINED,
                    "the capture spread to a stream that was not waited for",
                ),
            };
        }
        Ok(this.graph)
    }

    /// Spoils a capture.
    pub fn invalidate(&mut self, capture: u64) {
        if let Some(capture) = self.captures.get_mut(&capture) {
            capture.invalid = true;
        }
    }

    /// True if a capture was spoilt.
    pub fn is_invalid(&self, capture: u64) -> bool {
        self.captures.get(&capture).is_none_or(|c| c.invalid)
    }

    /// Adds work to the capture a stream takes part in.
    pub fn capture(&mut self, stream: Handle, op: Op) -> Result<()> {
        let nodes = [(0, Node { op, needs: vec![] })].into();
        self.capture_nodes(stream, &nodes)
    }

    pub fn capture_nodes(&mut self, stream: Handle, nodes: &Nodes) -> Result<()> {
        let part = self.streams[&stream].capturing.clone();
        let Capturing { capture, tips } = part.expect("a stream that is being captured");
        if self.is_invalid(capture) {
            return fail(
                Code::STREAM_CAPTURE_INVALIDATED,
                "an earlier call spoiled the capture",
            );
        }
        let graph = self.captures[&capture].graph;
        let last = self.add_nodes(graph, nodes, &tips)?;
        let stream = self.streams.get_mut(&stream).expect("it was found");
        if !last.is_empty() {
            stream.capturing = Some(Capturing {
                capture,
                tips: last,
            });
        }
        Ok(())
    }

    /// A stream waits for an event that was captured: it takes part in that capture.
    pub fn join(&mut self, stream: Handle, event: Capturing) -> Result<()> {
        if !self.captures.contains_key(&event.capture) {
            return fail(
                Code::CAPTURED_EVENT,
                "the event was recorded in a capture that has ended",
            );
        }
        let this = self.streams.get_mut(&stream).expect("it was found");
        match &mut this.capturing {
            None if this.legacy => {
                self.invalidate(event.capture);
                return fail(
                    Code::STREAM_CAPTURE_IMPLICIT,
                    "the default stream cannot take part in a capture",
                );
            }
            None => this.capturing = Some(event),
            Some(part) if part.capture == event.capture => {
                let new = event.tips.iter().filter(|tip| !part.tips.contains(tip));
                let new: Vec<_> = new.copied().collect();
                part.tips.extend(new);
            }
            Some(part) => {
                let other = part.capture;
                self.invalidate(other);
                self.invalidate(event.capture);
                return fail(
                    Code::STREAM_CAPTURE_MERGE,
                    "the event belongs to another capture",
                );
            }
        }
        Ok(())
    }

    /// Fails if a capture forbids calls that could disturb it.
    pub fn forbid_in_capture(&mut self) -> Result<()> {
        let here = std::thread::current().id();
        let forbids =
            |c: &&mut Capture| c.mode == GLOBAL || c.mode == THREAD_LOCAL && c.thread == here;
        match self.captures.values_mut().find(forbids) {
            Some(capture) => {
                capture.invalid = true;
                fail(
                    Code::STREAM_CAPTURE_UNSUPPORTED,
                    "not permitted while a stream is being captured",
                )
            }
            None => Ok(()),
        }
    }
}
