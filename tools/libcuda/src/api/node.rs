//! Nodes of graphs.

use crate::boundary::{Bytes, HostFunction, In, Out};
use crate::code::{Code, Result, fail};
use crate::driver::{Handle, Session, call};
use crate::graph::Node;
use crate::host::Callback;
use crate::launch::{Shape, Start};
use crate::work::Op;

use super::copy::{self, Copy3D};
use super::fill::{self, FillParameters};
use super::launch::prepare;

/// `CUDA_KERNEL_NODE_PARAMS`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KernelParameters {
    function: Handle,
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_shared: u32,
    arguments: In<Bytes>,
    extra: In<Bytes>,
    kernel: Handle,
    context: Handle,
}

/// `CUDA_HOST_NODE_PARAMS`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HostParameters {
    function: HostFunction,
    data: Bytes,
}

impl KernelParameters {
    fn op(&self, driver: &Session) -> Result<Op> {
        let function = match self.function {
            0 => self.kernel,
            function => function,
        };
        let shape = Shape::new(self.grid, self.block, self.dynamic_shared);
        prepare(driver, function, &shape, self.arguments, self.extra)
    }
}

/// Adds a node to a graph.
fn add(
    name: &str,
    out: Out<Handle>,
    graph: Handle,
    (needs, count): (In<Handle>, usize),
    op: impl FnOnce(&mut Session) -> Result<Op>,
) -> i32 {
    call(name, |driver| {
        let op = op(driver)?;
        let needs = needs.list(count)?;
        out.put(driver.add_node(graph, op, needs)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphAddKernelNode_v2(
    out: Out<Handle>,
    graph: Handle,
    needs: In<Handle>,
    count: usize,
    parameters: In<KernelParameters>,
) -> i32 {
    let name = "cuGraphAddKernelNode";
    add(name, out, graph, (needs, count), |driver| {
        parameters.get()?.op(driver)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphAddMemcpyNode(
    out: Out<Handle>,
    graph: Handle,
    needs: In<Handle>,
    count: usize,
    parameters: In<Copy3D>,
    _context: Handle,
) -> i32 {
    let name = "cuGraphAddMemcpyNode";
    add(name, out, graph, (needs, count), |driver| {
        copy::node(driver, &parameters.get()?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphAddMemsetNode(
    out: Out<Handle>,
    graph: Handle,
    needs: In<Handle>,
    count: usize,
    parameters: In<FillParameters>,
    _context: Handle,
) -> i32 {
    let name = "cuGraphAddMemsetNode";
    add(name, out, graph, (needs, count), |driver| {
        fill::node(driver, parameters)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphAddHostNode(
    out: Out<Handle>,
    graph: Handle,
    needs: In<Handle>,
    count: usize,
    parameters: In<HostParameters>,
) -> i32 {
    let name = "cuGraphAddHostNode";
    add(name, out, graph, (needs, count), |_| {
        let HostParameters { function, data } = parameters.get()?;
        match function {
            Some(function) => Ok(Op::Host(data.call(Callback::Host(function)))),
            None => fail(Code::INVALID_VALUE, "the function is null"),
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphAddEmptyNode(
    out: Out<Handle>,
    graph: Handle,
    needs: In<Handle>,
    count: usize,
) -> i32 {
    let name = "cuGraphAddEmptyNode";
    add(name, out, graph, (needs, count), |_| Ok(Op::Nothing))
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphAddEventRecordNode(
    out: Out<Handle>,
    graph: Handle,
    needs: In<Handle>,
    count: usize,
    event: Handle,
) -> i32 {
    let name = "cuGraphAddEventRecordNode";
    add(name, out, graph, (needs, count), |driver| {
        driver.event(event)?;
        Ok(Op::Record(event))
    })
}

/// The nodes of the other graph are copied in; the node that stands for them comes last.
#[unsafe(no_mangle)]
extern "C" fn cuGraphAddChildGraphNode(
    out: Out<Handle>,
    graph: Handle,
    needs: In<Handle>,
    count: usize,
    child: Handle,
) -> i32 {
    call("cuGraphAddChildGraphNode", |driver| {
        let nodes = driver.graph(child)?.nodes.clone();
        let mut needs = needs.list(count)?;
        let last = driver.add_nodes(graph, &nodes, &needs)?;
        if !last.is_empty() {
            needs = last;
        }
        out.put(driver.add_node(graph, Op::Nothing, needs)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphDestroyNode(node: Handle) -> i32 {
    call("cuGraphDestroyNode", |driver| {
        let graph = driver.graph_of(node)?;
        let nodes = &mut driver.graph(graph)?.nodes;
        nodes.remove(&node);
        for other in nodes.values_mut() {
            other.needs.retain(|need| *need != node);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphNodeGetType(node: Handle, kind: Out<i32>) -> i32 {
    call("cuGraphNodeGetType", |driver| {
        kind.put(match driver.node(node)?.op {
            Op::Kernel(_) => 0,
            Op::Copy(_) => 1,
            Op::Fill(_) => 2,
            Op::Host(_) => 3,
            Op::Nothing => 5,
            Op::Record(_) => 7,
            Op::Free(_) => 11,
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphNodeGetDependencies(
    node: Handle,
    needs: Out<Handle>,
    count: Out<usize>,
) -> i32 {
    call("cuGraphNodeGetDependencies", |driver| {
        needs.put_list(&driver.node(node)?.needs, count)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphNodeGetDependentNodes(
    node: Handle,
    others: Out<Handle>,
    count: Out<usize>,
) -> i32 {
    call("cuGraphNodeGetDependentNodes", |driver| {
        let graph = driver.graph_of(node)?;
        let nodes = driver.graph(graph)?.nodes.iter();
        let dependent = nodes.filter(|(_, other)| other.needs.contains(&node));
        let dependent: Vec<_> = dependent.map(|(other, _)| *other).collect();
        others.put_list(&dependent, count)
    })
}

/// The launch of a node.
fn kernel(node: &mut Node) -> Result<&mut Start> {
    match &mut node.op {
        Op::Kernel(start) => Ok(start),
        _ => fail(Code::INVALID_VALUE, "the node is not a kernel"),
    }
}

/// The arguments live until the parameters of the node change.
#[unsafe(no_mangle)]
extern "C" fn cuGraphKernelNodeGetParams_v2(node: Handle, out: Out<KernelParameters>) -> i32 {
    call("cuGraphKernelNodeGetParams", |driver| {
        let start = kernel(driver.node(node)?)?;
        start.pointers = start.bytes.iter().map(|b| b.as_ptr() as usize).collect();
        out.put(KernelParameters {
            function: start.function,
            grid: start.launch.grid,
            block: start.launch.block,
            dynamic_shared: start.launch.dynamic_shared,
            arguments: In::of(&start.pointers),
            extra: In::NULL,
            kernel: 0,
            context: 0,
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphKernelNodeSetParams_v2(node: Handle, parameters: In<KernelParameters>) -> i32 {
    call("cuGraphKernelNodeSetParams", |driver| {
        let op = parameters.get()?.op(driver)?;
        let node = driver.node(node)?;
        kernel(node)?;
        node.op = op;
        Ok(())
    })
}

/// Replaces the work of a node of an executable graph by work of the same kind.
fn set_in_executable(
    name: &str,
    executable: Handle,
    node: Handle,
    op: impl FnOnce(&mut Session) -> Result<Op>,
) -> i32 {
    call(name, |driver| {
        let op = op(driver)?;
        let nodes = &mut driver.executable(executable)?.nodes;
        let same =
            |known: &&mut Node| std::mem::discriminant(&known.op) == std::mem::discriminant(&op);
        match nodes.get_mut(&node).filter(same) {
            Some(known) => {
                known.op = op;
                Ok(())
            }
            None => fail(
                Code::INVALID_VALUE,
                format!("{node:#x} is not such a node of this graph"),
            ),
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphExecKernelNodeSetParams_v2(
    executable: Handle,
    node: Handle,
    parameters: In<KernelParameters>,
) -> i32 {
    let name = "cuGraphExecKernelNodeSetParams";
    set_in_executable(name, executable, node, |driver| {
        parameters.get()?.op(driver)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphExecMemcpyNodeSetParams(
    executable: Handle,
    node: Handle,
    parameters: In<Copy3D>,
    _context: Handle,
) -> i32 {
    let name = "cuGraphExecMemcpyNodeSetParams";
    set_in_executable(name, executable, node, |driver| {
        copy::node(driver, &parameters.get()?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphExecMemsetNodeSetParams(
    executable: Handle,
    node: Handle,
    parameters: In<FillParameters>,
    _context: Handle,
) -> i32 {
    let name = "cuGraphExecMemsetNodeSetParams";
    set_in_executable(name, executable, node, |driver| {
        fill::node(driver, parameters)
    })
}
