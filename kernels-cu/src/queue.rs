//! What is asked of a device on its way to the driver: at once, or when a graph of it is complete.

use crate::error::Result;
use crate::gpu::{Gpu, Inner};
use crate::graph::Graphs;
use crate::work::Work;

/// Work that waits, in order.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Vec<Work>,
    /// Calls of [`Gpu::graph`] that are under way.
    open: usize,
    graphs: Graphs,
}

impl Gpu {
    /// Runs `f` and hands the work that is asked for meanwhile, by any thread, to the driver as one graph. It is handed over earlier
    /// if somebody waits for it, such as a read; the rest is then another graph. Calls within `f` add to the same graph.
    ///
    /// Uploads do not wait: they go to memory that no work before them knows.
    ///
    /// # Errors
    /// The driver refuses the work.
    pub fn graph<T>(&self, f: impl FnOnce() -> T) -> Result<T> {
        let open = Open::new(&self.0);
        let result = f();
        open.close()?;
        Ok(result)
    }
}

/// A call of [`Gpu::graph`]; its end, by a panic too.
struct Open<'a>(&'a Inner);

impl<'a> Open<'a> {
    fn new(gpu: &'a Inner) -> Self {
        let mut queue = gpu.queue();
        queue.open += 1;
        gpu.pool().hold();
        Open(gpu)
    }

    fn close(self) -> Result<()> {
        std::mem::ManuallyDrop::new(self).end()
    }

    fn end(&self) -> Result<()> {
        let mut queue = self.0.queue();
        queue.open -= 1;
        match queue.open {
            0 => self.0.hand_over(&mut queue),
            _ => Ok(()),
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl Inner {
    /// Asks the driver for work, now or with the rest of its graph.
    pub(crate) fn submit(&self, work: Work) -> Result<()> {
        if let Work::Copy { bytes: 0, .. } | Work::Fill { bytes: 0, .. } = work {
            return Ok(());
        }
        let mut queue = self.queue();
        if queue.open > 0 {
            queue.waiting.push(work);
            return Ok(());
        }
        self.bind()?;
        work.issue(self.stream.cu_stream())
    }

    /// Hands over what waits, and binds the context to this thread.
    pub(crate) fn flush(&self) -> Result<()> {
        self.hand_over(&mut self.queue())
    }

    fn hand_over(&self, queue: &mut Queue) -> Result<()> {
        let Queue {
            waiting,
            open,
            graphs,
        } = queue;
        let work = std::mem::take(waiting);
        let done = self.bind().and_then(|()| match work.len() {
            0 => Ok(()),
            _ => graphs.run(work, self.context.cu_ctx(), self.stream.cu_stream()),
        });
        // before the queue is unlocked: work that comes now must not find its memory given away
        self.pool().release(*open > 0);
        done
    }
}
