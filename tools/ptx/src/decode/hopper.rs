//! What else came with sm_90: asynchronous matrix products, clusters, fences between proxies.

use super::line::Line;
use crate::counters::Class;
use crate::error::Result;
use crate::exec::registers::Bank;
use crate::hopper::{Hopper, Product, Source};
use crate::program::{Accumulator, Action, Address, Factor, Register};
use crate::text::ast::{Immediate, Operand};
use crate::types::{Space, Type};

pub(super) fn decode(line: &mut Line) -> Result<Option<(Action, Class)>> {
    let (hopper, class) = match line.name {
        "wgmma" => (products(line)?, Class::Matrix),
        "barrier" if line.has("cluster") => (cluster_barrier(line)?, Class::Barrier),
        "mapa" | "getctarank" => (map_address(line)?, Class::Integer),
        "fence" if line.has("proxy") || line.has("mbarrier_init") => {
            return Ok(Some((fence(line)?, Class::Barrier)));
        }
        "setmaxnreg" => {
            // registers are not counted here
            line.ignore(&["inc", "dec", "sync", "aligned", "u32"]);
            line.finish(1..=1)?;
            line.constant(0)?;
            return Ok(Some((Action::Fence, Class::Other)));
        }
        "griddepcontrol" => {
            // the grids before this one are done
            if !line.take("wait") && !line.take("launch_dependents") {
                return line.unknown();
            }
            line.finish(0..=0)?;
            return Ok(Some((Action::Fence, Class::Other)));
        }
        _ => return Ok(None),
    };
    Ok(Some((Action::Hopper(Box::new(hopper)), class)))
}

fn cluster_barrier(line: &mut Line) -> Result<Hopper> {
    line.ignore(&["cluster", "aligned", "release", "acquire", "relaxed"]);
    let hopper = match line.take_one(&["arrive", "wait"]) {
        Some("arrive") => Hopper::ClusterArrive,
        Some(_) => Hopper::ClusterWait,
        None => return line.unknown(),
    };
    line.finish(0..=0)?;
    Ok(hopper)
}

fn map_address(line: &mut Line) -> Result<Hopper> {
    let space = line.space();
    if !matches!(space, Space::Shared | Space::Generic) {
        return line.unknown();
    }
    let (bank, bits) = match line.ty()? {
        Type::U(32) => (Bank::Word, 32),
        Type::U(64) => (Bank::Double, 64),
        _ => return line.unknown(),
    };
    let maps = line.name == "mapa";
    let operands = if maps { 3 } else { 2 };
    line.finish(operands..=operands)?;
    let address = Address {
        base: Register {
            bank,
            slot: line.source_of(line.operand(1)?, bank, bits)?,
            bits,
        },
        offset: 0,
    };
    let dest = line.register(line.operand(0)?)?;
    if maps {
        return Ok(Hopper::MapAddress {
            dest,
            address,
            rank: line.source::<u32>(2)?,
        });
    }
    Ok(Hopper::RankOf { dest, address })
}

fn fence(line: &mut Line) -> Result<Action> {
    line.ignore(&[
        "proxy", "acquire", "release", "cta", "cluster", "gpu", "sys",
    ]);
    if line.take("mbarrier_init") || line.take("alias") || line.take("async::global") {
        line.finish(0..=0)?;
        return Ok(Action::Fence);
    }
    if line.take("tensormap::generic") {
        line.finish(0..=2)?;
        if line.count() > 0 {
            line.address(0, &mut Space::Generic)?;
        }
        return Ok(Action::Fence);
    }
    if line.take("async::generic") {
        line.ignore_prefixed(&["sync_restrict::"]);
    } else if !line.take("async") && !line.take("async::shared::cta") {
        return line.unknown();
    }
    // in the text it is one suffix after another
    let global = line.take("global");
    line.ignore(&["shared::cta", "shared::cluster"]);
    line.finish(0..=0)?;
    Ok(if global {
        Action::Fence
    } else {
        Action::Hopper(Box::new(Hopper::ProxyFence))
    })
}

fn products(line: &mut Line) -> Result<Hopper> {
    let operation = line.take_one(&["fence", "commit_group", "wait_group", "mma_async"]);
    if !line.take("sync") || !line.take("aligned") {
        return line.unknown();
    }
    match operation {
        Some("fence") => {
            line.finish(0..=0)?;
            Ok(Hopper::ProductFence)
        }
        Some("commit_group") => {
            line.finish(0..=0)?;
            Ok(Hopper::CommitProducts)
        }
        Some("wait_group") => {
            line.finish(1..=1)?;
            Ok(Hopper::WaitProducts(line.constant(0)? as u32))
        }
        Some(_) => Ok(Hopper::Product(product(line)?)),
        None => line.unknown(),
    }
}

fn factor(ty: Type) -> Option<Factor> {
    Some(match ty {
        Type::F16 => Factor::F16,
        Type::BF16 => Factor::BF16,
        Type::TF32 => Factor::TF32,
        Type::E4M3 => Factor::E4M3,
        Type::E5M2 => Factor::E5M2,
        Type::S(8) => Factor::S8,
        Type::U(8) => Factor::U8,
        _ => return None,
    })
}

/// Columns and depth in `m64n64k16`.
fn shape(text: &str) -> Option<(usize, usize)> {
    let (n, k) = text.strip_prefix("m64n")?.split_once('k')?;
    Some((n.parse().ok()?, k.parse().ok()?))
}

fn product(line: &mut Line) -> Result<Product> {
    let Some((n, k)) = line.take_map(shape) else {
        return line.error("this shape is not known");
    };
    let saturate = line.take("satfinite");
    let [d, a, b] = line.types()[..] else {
        return line.error("three types expected");
    };
    let (Some(a_type), Some(b_type)) = (factor(a), factor(b)) else {
        return line.error("these types are not known");
    };
    let whole = matches!(a_type, Factor::S8 | Factor::U8);
    let eight = matches!(a_type, Factor::E4M3 | Factor::E5M2);
    let halves = matches!(a_type, Factor::F16 | Factor::BF16);
    let same = if whole {
        matches!(b_type, Factor::S8 | Factor::U8)
    } else if eight {
        matches!(b_type, Factor::E4M3 | Factor::E5M2)
    } else {
        a_type == b_type
    };
    let result = match d {
        Type::F32 if !whole => Accumulator::F32,
        Type::F16 if eight || a_type == Factor::F16 => Accumulator::F16,
        Type::S(32) if whole => Accumulator::S32,
        _ => return line.unknown(),
    };
    let depth = if halves {
        16
    } else if a_type == Factor::TF32 {
        8
    } else {
        32
    };
    if !same || k != depth || n % 8 != 0 || !(8..=256).contains(&n) || saturate && !whole {
        return line.unknown();
    }
    let registers = matches!(line.operand(1)?, Operand::List(_));
    // scales of floating-point factors, and how halves in shared memory lie
    let scales = if whole { 0 } else { 2 };
    let majors = match (halves, registers) {
        (false, _) => 0,
        (true, true) => 1,
        (true, false) => 2,
    };
    let count = 4 + scales + majors;
    line.finish(count..=count)?;
    let slots = line.words(0, true)?;
    let per = if result == Accumulator::F16 { 4 } else { 2 };
    if slots.len() != n / per {
        return line.error("the number of accumulators does not fit the shape");
    }
    let source = if registers {
        let slots = line.words(1, false)?;
        if slots.len() != 4 {
            return line.error("the number of registers does not fit the shape");
        }
        Source::Registers(slots)
    } else {
        Source::Shared(line.source::<u64>(1)?)
    };
    let mut flags = [0; 4];
    for (flag, at) in flags.iter_mut().zip(4..count) {
        *flag = line.constant(at)? as i64;
    }
    let scale = |flag: i64| scales > 0 && flag == -1;
    let transposed = |flag: i64| flag == 1;
    Ok(Product {
        n,
        k,
        a_type,
        b_type,
        result,
        d: slots,
        a: source,
        b: line.source::<u64>(2)?,
        add: add(line)?,
        negate_a: scale(flags[0]),
        negate_b: scale(flags[1]),
        transpose_a: majors == 2 && transposed(flags[2]),
        transpose_b: majors > 0 && transposed(flags[1 + majors]),
        saturate,
    })
}

/// Whether the old accumulators are added: a predicate, or 0 or 1 in the text.
fn add(line: &mut Line) -> Result<(usize, bool)> {
    if let Operand::Immediate(Immediate::Integer(_)) = line.operand(3)? {
        return Ok((line.source::<bool>(3)?, false));
    }
    line.predicate(3)
}
