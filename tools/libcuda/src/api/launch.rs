//! Launches.

use crate::boundary::{Bytes, In};
use crate::code::{Code, Result, fail};
use crate::driver::{Handle, Session, call};
use crate::launch::Shape;
use crate::work::Op;

/// `CUlaunchConfig`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Config {
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_shared: u32,
    stream: Handle,
    attributes: In<Attribute>,
    count: u32,
}

/// `CUlaunchAttribute`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Attribute {
    id: i32,
    padding: i32,
    value: [u32; 16],
}

/// Attributes that change what is launched; the others are hints, or events.
const COOPERATIVE: i32 = 2;
const CLUSTER: i32 = 4;
const PROGRAMMATIC_EVENT: i32 = 7;
const COMPLETION_EVENT: i32 = 12;

/// Entries of `extra` (`CU_LAUNCH_PARAM_*`).
const END: usize = 0;
const BUFFER: usize = 1;
const BUFFER_BYTES: usize = 2;

impl Config {
    /// What the configuration asks for.
    pub fn shape(&self) -> Result<Shape> {
        let mut shape = Shape::new(self.grid, self.block, self.dynamic_shared);
        for attribute in self.attributes.list(self.count as usize)? {
            let value = attribute.value;
            match attribute.id {
                COOPERATIVE => shape.cooperative = value[0] != 0,
                CLUSTER => shape.cluster = Some([value[0], value[1], value[2]]),
                PROGRAMMATIC_EVENT | COMPLETION_EVENT => {
                    return fail(
                        Code::NOT_SUPPORTED,
                        format!("launch attribute {} is not served", attribute.id),
                    );
                }
                0..=18 => {}
                other => {
                    return fail(Code::INVALID_VALUE, format!("no launch attribute {other}"));
                }
            }
        }
        Ok(shape)
    }
}

/// The bytes of the arguments of a kernel.
pub fn arguments(
    driver: &Session,
    function: Handle,
    parameters: In<Bytes>,
    extra: In<Bytes>,
) -> Result<Vec<Vec<u8>>> {
    let kernel = &driver.function(function)?.kernel;
    let (sizes, offsets) = (kernel.argument_bytes(), kernel.argument_offsets());
    if sizes.is_empty() {
        return Ok(vec![]);
    }
    let missing = |what: &str| {
        let why = format!("{}: {} arguments, {what}", kernel.name(), sizes.len());
        fail(Code::INVALID_VALUE, why)
    };
    if extra.is_null() {
        if parameters.is_null() {
            return missing("and none are given");
        }
        let pointers = parameters.list(sizes.len())?;
        if let Some(index) = pointers.iter().position(|p| p.is_null()) {
            return missing(&format!("and the pointer to number {index} is null"));
        }
        let bytes = pointers.iter().zip(&sizes);
        return Ok(bytes.map(|(p, n)| p.memory(*n).read(0, *n)).collect());
    }
    let (mut buffer, mut room) = (None, 0);
    let mut at = 0;
    loop {
        // pairs of a name and a value, up to the end
        let name = extra.at(at).get()?.address();
        let value = || extra.at(at + 1).get();
        match name {
            END => break,
            BUFFER => buffer = Some(value()?),
            BUFFER_BYTES => room = value()?.of::<usize>().get()?,
            other => {
                return fail(Code::INVALID_VALUE, format!("no launch parameter {other}"));
            }
        }
        at += 2;
    }
    let ends = sizes.iter().zip(&offsets).map(|(size, at)| size + at);
    let Some(buffer) = buffer.filter(|_| ends.max() <= Some(room)) else {
        return missing(&format!("which do not lie in a buffer of {room} bytes"));
    };
    let memory = buffer.memory(room);
    let bytes = sizes.iter().zip(&offsets);
    Ok(bytes.map(|(size, at)| memory.read(*at, *size)).collect())
}

/// Checks a launch and makes it ready.
pub fn prepare(
    driver: &Session,
    function: Handle,
    shape: &Shape,
    parameters: In<Bytes>,
    extra: In<Bytes>,
) -> Result<Op> {
    let bytes = arguments(driver, function, parameters, extra)?;
    driver.prepare(function, shape, bytes)
}

#[unsafe(no_mangle)]
extern "C" fn cuLaunchKernel(
    function: Handle,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    dynamic_shared: u32,
    stream: Handle,
    parameters: In<Bytes>,
    extra: In<Bytes>,
) -> i32 {
    call("cuLaunchKernel", |driver| {
        let stream = driver.stream(stream)?;
        let grid = [grid_x, grid_y, grid_z];
        let block = [block_x, block_y, block_z];
        let shape = Shape::new(grid, block, dynamic_shared);
        let op = prepare(driver, function, &shape, parameters, extra)?;
        driver.submit(stream, op)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLaunchCooperativeKernel(
    function: Handle,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    dynamic_shared: u32,
    stream: Handle,
    parameters: In<Bytes>,
) -> i32 {
    call("cuLaunchCooperativeKernel", |driver| {
        let stream = driver.stream(stream)?;
        let grid = [grid_x, grid_y, grid_z];
        let block = [block_x, block_y, block_z];
        let shape = Shape {
            cooperative: true,
            ..Shape::new(grid, block, dynamic_shared)
        };
        let op = prepare(driver, function, &shape, parameters, In::NULL)?;
        driver.submit(stream, op)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLaunchKernelEx(
    config: In<Config>,
    function: Handle,
    parameters: In<Bytes>,
    extra: In<Bytes>,
) -> i32 {
    call("cuLaunchKernelEx", |driver| {
        let config = config.get()?;
        let stream = driver.stream(config.stream)?;
        let op = prepare(driver, function, &config.shape()?, parameters, extra)?;
        driver.submit(stream, op)
    })
}
