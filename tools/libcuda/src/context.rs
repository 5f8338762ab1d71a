//! Contexts: what is current on a thread, what has gone wrong in them, what ends with them.

use std::collections::{BTreeMap, HashMap};
use std::thread::ThreadId;

use crate::code::{Code, Result, fail};
use crate::driver::{CONTEXTS, Driver, Handle, Session};
use crate::stream::Stream;

/// A context.
pub struct Context {
    pub flags: u32,
    /// What went wrong in earlier work; every later call returns it.
    pub error: Option<Code>,
    /// The default stream.
    pub legacy: Handle,
    /// Default streams of threads that asked for one of their own.
    pub per_thread: HashMap<ThreadId, Handle>,
    /// Values of `cuCtxSetLimit`, kept and without effect.
    pub limits: BTreeMap<i32, usize>,
    /// Preferred cache, kept and without effect.
    pub cache: i32,
}

/// The context that everybody shares.
pub struct Primary {
    pub handle: Handle,
    /// How often it was retained.
    pub retained: u32,
    pub flags: u32,
}

impl Primary {
    pub fn new(handle: Handle) -> Primary {
        Primary {
            handle,
            retained: 0,
            flags: 0,
        }
    }
}

/// The context on top of this thread's stack; 0 for none.
pub fn top() -> Handle {
    CONTEXTS.with_borrow(|stack| stack.last().copied().unwrap_or(0))
}

/// Replaces the context on top of this thread's stack.
pub fn set_top(context: Handle) {
    CONTEXTS.with_borrow_mut(|stack| {
        stack.pop();
        if context != 0 {
            stack.push(context);
        }
    });
}

impl Driver {
    /// The current context, whatever went wrong in it.
    pub fn current(&self) -> Result<Handle> {
        let context = top();
        if context == 0 {
            return fail(
                Code::INVALID_CONTEXT,
                "no context is current on this thread",
            );
        }
        self.known_context(context)
    }

    /// The current context, in which nothing has gone wrong.
    pub fn healthy(&self) -> Result<Handle> {
        let context = self.current()?;
        self.check_context(context)?;
        Ok(context)
    }

    /// A context that exists.
    pub fn known_context(&self, context: Handle) -> Result<Handle> {
        if self.contexts.contains_key(&context) {
            Ok(context)
        } else if self.was_handle(context) {
            fail(Code::CONTEXT_IS_DESTROYED, "the context was destroyed")
        } else {
            fail(
                Code::INVALID_CONTEXT,
                format!("{context:#x} is not a context"),
            )
        }
    }

    /// Fails with what went wrong in a context before.
    pub fn check_context(&self, context: Handle) -> Result<()> {
        match self.contexts.get(&context).and_then(|c| c.error) {
            Some(code) => Err(code.into()),
            None => Ok(()),
        }
    }

    /// Makes a context.
    pub fn create_context(&mut self, handle: Handle, flags: u32) {
        let legacy = self.new_handle();
        self.streams.insert(
            legacy,
            Stream {
                legacy: true,
                ..Stream::new(handle)
            },
        );
        let context = Context {
            flags,
            error: None,
            legacy,
            per_thread: HashMap::new(),
            limits: BTreeMap::new(),
            cache: 0,
        };
        self.contexts.insert(handle, context);
    }

    /// Something went wrong in the work of a context: a sentence, and from now on an error.
    pub fn break_context(&mut self, context: Handle, call: &str, code: Code, why: &str) {
        self.reports.failure(call, code, why);
        self.fail_context(context, code);
    }

    /// From now on the calls of a context fail, unless findings are only reported.
    pub fn fail_context(&mut self, context: Handle, code: Code) {
        if self.settings.fail
            && let Some(context) = self.contexts.get_mut(&context)
        {
            context.error.get_or_insert(code);
        }
    }
}

impl Session {
    /// Destroys a context with all that belongs to it, once its work is complete.
    pub fn destroy_context(&mut self, call: &str, handle: Handle) {
        self.finish_context(handle);
        let driver = &mut **self;
        driver.streams.retain(|_, stream| stream.context != handle);
        driver.events.retain(|_, event| event.context != handle);
        let modules = driver.modules.iter();
        let owned: Vec<_> = modules
            .filter(|(_, module)| module.context == Some(handle))
            .map(|(module, _)| *module)
            .collect();
        for module in owned {
            driver.unload(module);
        }
        driver.free_all(call, handle);
        driver.contexts.remove(&handle);
    }
}
