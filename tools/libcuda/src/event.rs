//! Events: points in streams, with the simulated time at which they are reached.

use crate::code::{Code, Result, fail};
use crate::driver::{Driver, Handle, Session};
use crate::queue::Need;
use crate::stream::Capturing;
use crate::work::Op;

/// An event.
#[derive(Debug)]
pub struct Event {
    pub context: Handle,
    /// False if it was made without time.
    pub timed: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    /// The work that reaches it, and when.
    Recorded {
        id: u64,
        time: Option<f64>,
    },
    /// It was recorded in a stream that was being captured.
    Captured(Capturing),
}

impl Event {
    pub fn new(context: Handle, timed: bool) -> Event {
        let state = State::New;
        Event {
            context,
            timed,
            state,
        }
    }

    /// Work of this number will reach it.
    pub fn record(&mut self, id: u64) {
        self.state = State::Recorded { id, time: None };
    }

    /// Work of this number reached it, if it was not recorded again.
    pub fn complete(&mut self, by: u64, at: f64) {
        if let State::Recorded { id, time } = &mut self.state
            && *id == by
        {
            *time = Some(at);
        }
    }
}

impl Driver {
    /// An event that exists.
    pub fn event(&self, handle: Handle) -> Result<&Event> {
        match self.events.get(&handle) {
            Some(event) => Ok(event),
            None => fail(
                Code::INVALID_HANDLE,
                format!("{handle:#x} is not an event, or one that was destroyed"),
            ),
        }
    }

    /// Work that reaches an event, if it was recorded.
    fn recorded(&self, handle: Handle) -> Result<Option<Need>> {
        match &self.event(handle)?.state {
            State::New => Ok(None),
            State::Recorded { id, time } => Ok(Some(Need {
                id: *id,
                time: time.unwrap_or(0.0),
            })),
            State::Captured(_) => fail(
                Code::CAPTURED_EVENT,
                "the event was recorded in a stream that was being captured",
            ),
        }
    }

    /// Milliseconds between two events.
    pub fn elapsed(&self, start: Handle, end: Handle) -> Result<f32> {
        let time = |handle| {
            let event = self.event(handle)?;
            match event.state {
                State::Recorded { .. } if !event.timed => fail(
                    Code::INVALID_HANDLE,
                    "the event was created without time (CU_EVENT_DISABLE_TIMING)",
                ),
                State::Recorded {
                    time: Some(time), ..
                } => Ok(time),
                State::Recorded { .. } => Err(Code::NOT_READY.into()),
                _ => fail(Code::INVALID_HANDLE, "the event has not been recorded"),
            }
        };
        Ok(((time(end)? - time(start)?) / 1e6) as f32)
    }
}

impl Session {
    /// Records an event in a stream.
    pub fn record(&mut self, event: Handle, stream: Handle) -> Result<()> {
        self.event(event)?;
        if let Some(capturing) = self.streams[&stream].capturing.clone() {
            let event = self.events.get_mut(&event).expect("it was found");
            event.state = State::Captured(capturing);
            return Ok(());
        }
        self.submit(stream, Op::Record(event))
    }

    /// Makes a stream wait for an event.
    pub fn wait_event(&mut self, stream: Handle, event: Handle) -> Result<()> {
        if let State::Captured(captured) = &self.event(event)?.state {
            let captured = captured.clone();
            return self.join(stream, captured);
        }
        let Some(need) = self.recorded(event)? else {
            return Ok(());
        };
        if let Some(capturing) = self.streams[&stream].capturing.clone() {
            self.invalidate(capturing.capture);
            return fail(
                Code::STREAM_CAPTURE_ISOLATION,
                "a stream that is being captured cannot wait for work that is not",
            );
        }
        self.submit_after(stream, Op::Nothing, &[need])
    }

    /// Completes all work before an event.
    pub fn finish_event(&mut self, event: Handle) -> Result<()> {
        if let Some(need) = self.recorded(event)? {
            self.complete(&[need.id]);
        }
        let this = self.event(event)?;
        let context = this.context;
        if let State::Recorded {
            time: Some(time), ..
        } = this.state
        {
            self.now = self.now.max(time);
        }
        self.check_context(context)
    }

    /// True if an event has been reached. If not, work goes on a little, so that whoever asks again and again gets on.
    pub fn query_event(&mut self, event: Handle) -> Result<bool> {
        let need = self.recorded(event)?;
        let waited = need.is_some_and(|need| self.advance(&[need.id]));
        let context = self.event(event)?.context;
        self.check_context(context)?;
        Ok(!waited)
    }
}
