//! CUDA graphs: work that comes again and again goes to the driver in one call.
//!
//! [`Gpu::graph`](crate::Gpu::graph) keeps what is asked for until it is complete, as a list of [`Work`]. Lists of the same kinds of
//! work, in the same order, are the same graph: a chain, because all work is in one stream. The first list of its kinds is issued
//! piece by piece, since it may be the only one; the second makes the graph; from then on only nodes whose arguments differ from
//! the last time are set, and one call launches all.

use std::collections::HashMap;
use std::ptr;

use cudarc::driver::{result, sys};

use crate::error::Result;
use crate::gpu::driver;
use crate::work::{Kind, Work};

/// Kinds of lists that are remembered; beyond that, the one longest unused is forgotten.
const REMEMBERED: usize = 64;

/// Graphs by the kinds of their work.
#[derive(Default)]
pub(crate) struct Graphs {
    seen: HashMap<Vec<Kind>, Seen>,
    /// Lists that have come.
    count: u64,
}

struct Seen {
    /// `None` the first time.
    graph: Option<Graph>,
    /// The number of the last list of these kinds.
    last: u64,
}

impl Graphs {
    /// Asks `stream` for work in this order.
    pub fn run(
        &mut self,
        work: Vec<Work>,
        context: sys::CUcontext,
        stream: sys::CUstream,
    ) -> Result<()> {
        let kinds: Vec<Kind> = work.iter().map(Work::kind).collect();
        self.count += 1;
        let Some(seen) = self.seen.get_mut(&kinds) else {
            if self.seen.len() == REMEMBERED {
                self.forget();
            }
            let (graph, last) = (None, self.count);
            self.seen.insert(kinds, Seen { graph, last });
            return work.iter().try_for_each(|work| work.issue(stream));
        };
        seen.last = self.count;
        let kept = match &mut seen.graph {
            // drivers differ in what they let a node change; what one refuses is in a graph of its own
            Some(graph) => graph.set(&work, context).is_ok(),
            None => false,
        };
        if !kept {
            seen.graph = None;
            seen.graph = Some(Graph::new(work, context)?);
        }
        let graph = seen.graph.as_ref().expect("made above");
        // SAFETY: see `Work`
        let launch = unsafe { result::graph::launch(graph.executable, stream) };
        driver("cuGraphLaunch", launch)
    }

    fn forget(&mut self) {
        let oldest = self.seen.iter().min_by_key(|(_, seen)| seen.last);
        if let Some(kinds) = oldest.map(|(kinds, _)| kinds.clone()) {
            self.seen.remove(&kinds);
        }
    }
}

/// A graph that can be launched, and the work its nodes do.
struct Graph {
    graph: sys::CUgraph,
    executable: sys::CUgraphExec,
    nodes: Vec<(sys::CUgraphNode, Work)>,
}

// SAFETY: handles of the driver may be used by any thread; those that use them lock the graphs
unsafe impl Send for Graph {}

impl Graph {
    fn new(work: Vec<Work>, context: sys::CUcontext) -> Result<Self> {
        let mut graph = ptr::null_mut();
        // SAFETY: makes an empty graph
        driver("cuGraphCreate", unsafe {
            sys::cuGraphCreate(&mut graph, 0).result()
        })?;
        let mut made = Graph {
            graph,
            executable: ptr::null_mut(),
            nodes: vec![],
        };
        for work in work {
            let before = made.nodes.last().map(|(node, _)| *node);
            let node = work.add(graph, before, context)?;
            made.nodes.push((node, work));
        }
        let flags = sys::CUgraphInstantiate_flags(0);
        // SAFETY: the graph was made above
        let instantiated = unsafe { result::graph::instantiate(graph, flags) };
        made.executable = driver("cuGraphInstantiate", instantiated)?;
        Ok(made)
    }

    /// Makes the nodes do this work, of the same kinds.
    fn set(&mut self, work: &[Work], context: sys::CUcontext) -> Result<()> {
        for ((node, known), work) in self.nodes.iter_mut().zip(work) {
            if known != work {
                work.set(self.executable, *node, context)?;
                known.clone_from(work);
            }
        }
        Ok(())
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: both are this graph's own; the driver keeps what launches still need
        unsafe {
            if !self.executable.is_null() {
                let _ = result::graph::exec_destroy(self.executable);
            }
            let _ = result::graph::destroy(self.graph);
        }
    }
}
