//! Graphs as a whole.

use crate::boundary::{Bytes, In, Out};
use crate::code::{Code, Result, fail};
use crate::driver::{Handle, Session, call};

/// Flags of graphs that can be launched: free on launch, upload, device launch, priorities of nodes.
const ALL_FLAGS: u64 = 15;
const FREE_ON_LAUNCH: u64 = 1;
const DEVICE_LAUNCH: u64 = 4;

/// `CUDA_GRAPH_INSTANTIATE_PARAMS`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Parameters {
    flags: u64,
    stream: Handle,
    error_node: Handle,
    result: i32,
}

/// `CUgraphExecUpdateResultInfo`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Updated {
    result: i32,
    node: Handle,
    from: Handle,
}

/// Results of an update.
const UPDATED: i32 = 0;
const OTHER_TOPOLOGY: i32 = 2;

#[unsafe(no_mangle)]
extern "C" fn cuGraphCreate(out: Out<Handle>, flags: u32) -> i32 {
    call("cuGraphCreate", |driver| {
        if flags != 0 {
            return fail(Code::INVALID_VALUE, "flags must be 0");
        }
        out.put(driver.new_graph())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphDestroy(graph: Handle) -> i32 {
    call("cuGraphDestroy", |driver| driver.destroy_graph(graph))
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphClone(out: Out<Handle>, graph: Handle) -> i32 {
    call("cuGraphClone", |driver| {
        let original = driver.graph(graph)?;
        let (nodes, owned) = (original.nodes.clone(), original.owned.clone());
        let clone = driver.new_graph();
        driver.add_nodes(clone, &nodes, &[])?;
        driver.graph(clone)?.owned = owned;
        out.put(clone)
    })
}

fn instantiate(driver: &mut Session, graph: Handle, flags: u64) -> Result<Handle> {
    if flags & !ALL_FLAGS != 0 || flags & FREE_ON_LAUNCH != 0 && flags & DEVICE_LAUNCH != 0 {
        return fail(Code::INVALID_VALUE, format!("no flags {flags:#x}"));
    }
    if flags & DEVICE_LAUNCH != 0 {
        return fail(
            Code::NOT_SUPPORTED,
            "launches of graphs by the device are not served",
        );
    }
    driver.healthy()?;
    driver.instantiate(graph)
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphInstantiateWithFlags(out: Out<Handle>, graph: Handle, flags: u64) -> i32 {
    call("cuGraphInstantiateWithFlags", |driver| {
        out.put(instantiate(driver, graph, flags)?)
    })
}

/// The form of before CUDA 12, whose last arguments name a node and a log for errors.
#[unsafe(no_mangle)]
extern "C" fn cuGraphInstantiate_v2(
    out: Out<Handle>,
    graph: Handle,
    node: Out<Handle>,
    _log: Bytes,
    _room: usize,
) -> i32 {
    call("cuGraphInstantiate", |driver| {
        node.put_if_asked(0);
        out.put(instantiate(driver, graph, 0)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphInstantiateWithParams(
    out: Out<Handle>,
    graph: Handle,
    parameters: Out<Parameters>,
) -> i32 {
    call("cuGraphInstantiateWithParams", |driver| {
        let asked = parameters.get()?;
        let made = instantiate(driver, graph, asked.flags);
        parameters.put(Parameters {
            error_node: 0,
            result: i32::from(made.is_err()),
            ..asked
        })?;
        out.put(made?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphExecDestroy(executable: Handle) -> i32 {
    call("cuGraphExecDestroy", |driver| {
        driver.executable(executable)?;
        let contexts: Vec<_> = driver.contexts.keys().copied().collect();
        for context in contexts {
            // launches that are not complete may still use its memory
            driver.finish_context(context);
        }
        driver.destroy_executable(executable);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphLaunch(executable: Handle, stream: Handle) -> i32 {
    call("cuGraphLaunch", |driver| {
        let stream = driver.stream(stream)?;
        driver.launch_graph(executable, stream)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphUpload(executable: Handle, stream: Handle) -> i32 {
    call("cuGraphUpload", |driver| {
        driver.stream(stream)?;
        driver.executable(executable)?;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphExecUpdate_v2(executable: Handle, graph: Handle, result: Out<Updated>) -> i32 {
    call("cuGraphExecUpdate", |driver| {
        let updated = driver.update(executable, graph);
        result.put(Updated {
            result: if updated.is_ok() {
                UPDATED
            } else {
                OTHER_TOPOLOGY
            },
            node: 0,
            from: 0,
        })?;
        updated
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphGetNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) -> i32 {
    call("cuGraphGetNodes", |driver| {
        let all: Vec<_> = driver.graph(graph)?.nodes.keys().copied().collect();
        nodes.put_list(&all, count)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphGetRootNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) -> i32 {
    call("cuGraphGetRootNodes", |driver| {
        let all = driver.graph(graph)?.nodes.iter();
        let roots = all.filter(|(_, node)| node.needs.is_empty());
        let roots: Vec<_> = roots.map(|(node, _)| *node).collect();
        nodes.put_list(&roots, count)
    })
}

fn edges(graph: Handle, from: Out<Handle>, to: Out<Handle>, count: Out<usize>) -> i32 {
    call("cuGraphGetEdges", |driver| {
        let nodes = driver.graph(graph)?.nodes.iter();
        let all: Vec<_> = nodes
            .flat_map(|(to, node)| node.needs.iter().map(|from| (*from, *to)))
            .collect();
        let (starts, ends): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let room = count.get()?;
        from.put_list(&starts, count)?;
        count.put(room)?;
        to.put_list(&ends, count)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphGetEdges(
    graph: Handle,
    from: Out<Handle>,
    to: Out<Handle>,
    count: Out<usize>,
) -> i32 {
    edges(graph, from, to, count)
}

/// Edges here have no data; that of cuda.h is zero.
#[unsafe(no_mangle)]
extern "C" fn cuGraphGetEdges_v2(
    graph: Handle,
    from: Out<Handle>,
    to: Out<Handle>,
    data: Out<u64>,
    count: Out<usize>,
) -> i32 {
    if !data.is_null()
        && let Ok(room) = count.get()
    {
        data.put_all(&vec![0; room]);
    }
    edges(graph, from, to, count)
}

fn change_edges(
    name: &str,
    graph: Handle,
    from: In<Handle>,
    to: In<Handle>,
    count: usize,
    add: bool,
) -> i32 {
    call(name, |driver| {
        let nodes = &mut driver.graph(graph)?.nodes;
        for (from, to) in from.list(count)?.into_iter().zip(to.list(count)?) {
            let known = nodes.contains_key(&from);
            let Some(node) = nodes.get_mut(&to).filter(|_| known) else {
                return fail(
                    Code::INVALID_VALUE,
                    format!("{from:#x} or {to:#x} is not a node of this graph"),
                );
            };
            node.needs.retain(|need| *need != from);
            if add {
                node.needs.push(from);
            }
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphAddDependencies(
    graph: Handle,
    from: In<Handle>,
    to: In<Handle>,
    count: usize,
) -> i32 {
    change_edges("cuGraphAddDependencies", graph, from, to, count, true)
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphRemoveDependencies(
    graph: Handle,
    from: In<Handle>,
    to: In<Handle>,
    count: usize,
) -> i32 {
    change_edges("cuGraphRemoveDependencies", graph, from, to, count, false)
}
