//! Graphs: work that is described once and launched many times, made node by node or by capturing streams.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{Code, Result, fail};
use crate::driver::{Driver, Handle, Session};
use crate::memory::Kind;
use crate::queue::Need;
use crate::work::Op;

/// A piece of work and what it comes after.
#[derive(Clone)]
pub struct Node {
    pub op: Op,
    pub needs: Vec<Handle>,
}

/// Nodes by handle.
pub type Nodes = BTreeMap<Handle, Node>;

/// A graph.
#[derive(Default)]
pub struct Graph {
    pub nodes: Nodes,
    /// Memory that captured allocations made.
    pub owned: Vec<u64>,
}

/// A graph that can be launched. Its nodes have the handles they have in the graph it was made of.
pub struct Executable {
    pub nodes: Nodes,
    pub order: Vec<Handle>,
    owned: Vec<u64>,
}

/// Handles of nodes so that each comes behind what it needs; None if there is a cycle.
fn order(nodes: &Nodes) -> Option<Vec<Handle>> {
    let mut done = BTreeSet::new();
    let mut order = vec![];
    while order.len() < nodes.len() {
        let before = order.len();
        for (handle, node) in nodes {
            if !done.contains(handle) && node.needs.iter().all(|need| done.contains(need)) {
                done.insert(*handle);
                order.push(*handle);
            }
        }
        if order.len() == before {
            return None;
        }
    }
    Some(order)
}

/// Nodes that no other needs.
fn leaves(nodes: &Nodes) -> Vec<Handle> {
    let needed: BTreeSet<_> = nodes.values().flat_map(|node| &node.needs).collect();
    let handles = nodes.keys().filter(|handle| !needed.contains(handle));
    handles.copied().collect()
}

/// These nodes and all that they come after.
pub fn ancestors(nodes: &Nodes, of: &[Handle]) -> BTreeSet<Handle> {
    let mut found = BTreeSet::new();
    let mut open = of.to_vec();
    while let Some(handle) = open.pop() {
        if found.insert(handle) {
            open.extend(&nodes[&handle].needs);
        }
    }
    found
}

impl Driver {
    /// A graph that exists.
    pub fn graph(&mut self, handle: Handle) -> Result<&mut Graph> {
        match self.graphs.get_mut(&handle) {
            Some(graph) => Ok(graph),
            None => fail(
                Code::INVALID_VALUE,
                format!("{handle:#x} is not a graph, or one that was destroyed"),
            ),
        }
    }

    /// An executable graph that exists.
    pub fn executable(&mut self, handle: Handle) -> Result<&mut Executable> {
        match self.executables.get_mut(&handle) {
            Some(executable) => Ok(executable),
            None => fail(
                Code::INVALID_VALUE,
                format!("{handle:#x} is not an executable graph, or one that was destroyed"),
            ),
        }
    }

    /// The graph a node is in.
    pub fn graph_of(&self, node: Handle) -> Result<Handle> {
        let mut graphs = self.graphs.iter();
        match graphs.find(|(_, graph)| graph.nodes.contains_key(&node)) {
            Some((graph, _)) => Ok(*graph),
            None => fail(
                Code::INVALID_VALUE,
                format!("{node:#x} is not a node, or one whose graph was destroyed"),
            ),
        }
    }

    /// A node that exists.
    pub fn node(&mut self, node: Handle) -> Result<&mut Node> {
        let graph = self.graph_of(node)?;
        let nodes = &mut self.graph(graph)?.nodes;
        Ok(nodes.get_mut(&node).expect("it was found there"))
    }

    /// Adds a node to a graph.
    pub fn add_node(&mut self, graph: Handle, op: Op, needs: Vec<Handle>) -> Result<Handle> {
        let handle = self.new_handle();
        let nodes = &mut self.graph(graph)?.nodes;
        if let Some(need) = needs.iter().find(|need| !nodes.contains_key(need)) {
            return fail(
                Code::INVALID_VALUE,
                format!("{need:#x} is not a node of this graph"),
            );
        }
        nodes.insert(handle, Node { op, needs });
        Ok(handle)
    }

    /// Adds the nodes of one graph to another, behind some of its nodes, and returns the last ones.
    pub fn add_nodes(
        &mut self,
        graph: Handle,
        more: &Nodes,
        needs: &[Handle],
    ) -> Result<Vec<Handle>> {
        let Some(order) = order(more) else {
            return fail(Code::INVALID_VALUE, "a graph with a cycle");
        };
        let mut new = BTreeMap::new();
        for handle in order {
            let node = &more[&handle];
            let needs = match node.needs.is_empty() {
                true => needs.to_vec(),
                false => node.needs.iter().map(|need| new[need]).collect(),
            };
            new.insert(handle, self.add_node(graph, node.op.clone(), needs)?);
        }
        Ok(leaves(more).iter().map(|leaf| new[leaf]).collect())
    }

    pub fn new_graph(&mut self) -> Handle {
        let handle = self.new_handle();
        self.graphs.insert(handle, Graph::default());
        handle
    }

    /// Makes a graph executable.
    pub fn instantiate(&mut self, graph: Handle) -> Result<Handle> {
        let graph = self.graph(graph)?;
        let (nodes, owned) = (graph.nodes.clone(), graph.owned.clone());
        let Some(order) = order(&nodes) else {
            return fail(Code::INVALID_VALUE, "a graph with a cycle");
        };
        let handle = self.new_handle();
        let executable = Executable {
            nodes,
            order,
            owned,
        };
        self.executables.insert(handle, executable);
        Ok(handle)
    }

    /// Gives an executable graph the work of a graph of the same shape.
    pub fn update(&mut self, executable: Handle, graph: Handle) -> Result<()> {
        let new = self.graph(graph)?.nodes.clone();
        let old = self.executable(executable)?;
        let shape = |nodes: &Nodes| -> Vec<_> {
            let at: BTreeMap<_, _> = nodes.keys().enumerate().map(|(i, n)| (*n, i)).collect();
            let needs = |node: &Node| node.needs.iter().map(|n| at[n]).collect::<Vec<_>>();
            let nodes = nodes.values();
            nodes
                .map(|node| (std::mem::discriminant(&node.op), needs(node)))
                .collect()
        };
        if shape(&new) != shape(&old.nodes) {
            return fail(
                Code::GRAPH_EXEC_UPDATE_FAILURE,
                "the graphs differ in their nodes or edges",
            );
        }
        for (old, new) in old.nodes.values_mut().zip(new.into_values()) {
            old.op = new.op;
        }
        Ok(())
    }

    pub fn destroy_graph(&mut self, graph: Handle) -> Result<()> {
        self.graph(graph)?;
        let graph = self.graphs.remove(&graph).expect("it was found");
        self.free_owned(graph.owned);
        Ok(())
    }

    pub fn destroy_executable(&mut self, executable: Handle) {
        if let Some(executable) = self.executables.remove(&executable) {
            self.free_owned(executable.owned);
        }
    }

    /// Frees memory of captured allocations that no graph has any more.
    fn free_owned(&mut self, owned: Vec<u64>) {
        for address in owned {
            let graphs = self.graphs.values().map(|graph| &graph.owned);
            let executables = self.executables.values().map(|e| &e.owned);
            if graphs.chain(executables).all(|o| !o.contains(&address)) {
                self.free(address, &[Kind::Graph])
                    .expect("a live block of a graph");
            }
        }
    }
}

impl Session {
    /// Launches a graph in a stream.
    pub fn launch_graph(&mut self, executable: Handle, stream: Handle) -> Result<()> {
        let executable = self.executable(executable)?;
        let (nodes, order) = (executable.nodes.clone(), executable.order.clone());
        if self.streams[&stream].capturing.is_some() {
            return self.capture_nodes(stream, &nodes);
        }
        let first = self.enqueue(stream, Op::Nothing, &[])?;
        let need = |id| Need { id, time: 0.0 };
        let first = need(first.expect("the stream is not being captured"));
        let mut ids = BTreeMap::new();
        for handle in order {
            let node = &nodes[&handle];
            let mut needs: Vec<_> = node.needs.iter().map(|n| need(ids[n])).collect();
            needs.push(first);
            ids.insert(handle, self.push(stream, node.op.clone(), &needs));
        }
        let last: Vec<_> = leaves(&nodes).iter().map(|leaf| need(ids[leaf])).collect();
        self.submit_after(stream, Op::Nothing, &last)
    }
}
