//! Bulk copies, tensor maps and stores that count at a barrier.

use super::line::Line;
use crate::counters::Class;
use crate::error::Result;
use crate::exec::registers::Bank;
use crate::hopper::{BulkCopy, Hopper, Reduction, Route, TensorCopy};
use crate::program::{Action, AtomicOp, AtomicType, Register};
use crate::tensor_map::Field;
use crate::text::ast::Operand;
use crate::types::{Space, Type};

pub(super) fn decode(line: &mut Line) -> Result<Option<(Action, Class)>> {
    let hopper = match line.name {
        "cp" if line.has("bulk") => {
            let reduces = line.take("reduce");
            line.ignore(&["async", "bulk"]);
            copy(line, reduces)?
        }
        "tensormap" => tensor_map(line)?,
        "st" | "red" if line.has("async") => store(line)?,
        _ => return Ok(None),
    };
    let action = Action::Hopper(Box::new(hopper));
    Ok(Some((action, Class::AsyncCopy)))
}

fn copy(line: &mut Line, reduces: bool) -> Result<Hopper> {
    if line.take("commit_group") {
        line.finish(0..=0)?;
        return Ok(Hopper::CommitCopies);
    }
    if line.take("wait_group") {
        let read = line.take("read");
        line.finish(1..=1)?;
        let groups = line.constant(0)? as u32;
        return Ok(Hopper::WaitCopies { groups, read });
    }
    if line.take("prefetch") {
        if line.take("tensor") {
            return tensor(line, Route::Prefetch, false);
        }
        line.ignore_prefixed(&["L2"]);
        let mut space = line.space();
        line.finish(2..=3)?;
        let from = line.address(0, &mut space)?;
        return Ok(Hopper::Copy(BulkCopy {
            route: Route::Prefetch,
            to: from,
            from,
            bytes: line.source::<u32>(1)?,
            barrier: None,
            blocks: None,
            byte_mask: None,
            reduce: None,
        }));
    }
    let tiled = line.take("tensor");
    let counted = line.take("mbarrier::complete_tx::bytes");
    let route = match (counted, line.take("bulk_group")) {
        (true, false) => {
            let to_shared = line.take("shared::cluster") || line.take("shared::cta");
            if to_shared && line.take("global") {
                Route::GlobalToShared
            } else if to_shared && !tiled && line.take("shared::cta") {
                Route::SharedToShared
            } else {
                return line.unknown();
            }
        }
        (false, true) if line.take("global") && line.take("shared::cta") => Route::SharedToGlobal,
        _ => return line.unknown(),
    };
    if tiled {
        return tensor(line, route, reduces);
    }
    let blocks = line.take("multicast::cluster");
    let hint = line.take("L2::cache_hint");
    let masked = line.take("cp_mask");
    let reduce = if reduces {
        Some(reduction(line, route)?)
    } else {
        None
    };
    let fixed = if counted { 4 } else { 3 };
    let extra = [blocks, hint, masked].iter().filter(|x| **x).count();
    line.finish(fixed + extra..=fixed + extra)?;
    let (mut to, mut from) = (Space::Shared, Space::Shared);
    if route == Route::SharedToGlobal {
        to = Space::Global;
    } else if route == Route::GlobalToShared {
        from = Space::Global;
    }
    let barrier = if counted {
        Some(line.address(3, &mut Space::Shared)?)
    } else {
        None
    };
    Ok(Hopper::Copy(BulkCopy {
        route,
        to: line.address(0, &mut to)?,
        from: line.address(1, &mut from)?,
        bytes: line.source::<u32>(2)?,
        barrier,
        blocks: if blocks {
            Some(line.source::<u16>(4)?)
        } else {
            None
        },
        byte_mask: if masked {
            Some(line.source::<u16>(line.count() - 1)?)
        } else {
            None
        },
        reduce,
    }))
}

const OPERATIONS: [(&str, AtomicOp); 8] = [
    ("add", AtomicOp::Add),
    ("min", AtomicOp::Min),
    ("max", AtomicOp::Max),
    ("inc", AtomicOp::Inc),
    ("dec", AtomicOp::Dec),
    ("and", AtomicOp::And),
    ("or", AtomicOp::Or),
    ("xor", AtomicOp::Xor),
];

fn operation(line: &mut Line) -> Result<AtomicOp> {
    match OPERATIONS.into_iter().find(|(name, _)| line.take(name)) {
        Some((_, op)) => Ok(op),
        None => line.unknown(),
    }
}

fn reduction(line: &mut Line, route: Route) -> Result<Reduction> {
    let op = operation(line)?;
    line.take("noftz");
    let ty = line.ty()?;
    let element = match ty {
        Type::U(32 | 64) | Type::B(32 | 64) => AtomicType::Unsigned,
        Type::S(32 | 64) => AtomicType::Signed,
        Type::F32 => AtomicType::F32,
        Type::F64 => AtomicType::F64,
        Type::F16 => AtomicType::F16,
        Type::BF16 => AtomicType::BF16,
        _ => return line.unknown(),
    };
    let whole = matches!(element, AtomicType::Unsigned | AtomicType::Signed);
    let half = matches!(element, AtomicType::F16 | AtomicType::BF16);
    let known = whole || op == AtomicOp::Add || half && matches!(op, AtomicOp::Min | AtomicOp::Max);
    if !known || (!whole && route != Route::SharedToGlobal) {
        return line.unknown();
    }
    // blocks that add to the same place run one after another
    line.decoder.program.ordered |= route == Route::SharedToGlobal;
    Ok(Reduction {
        op,
        ty: element,
        bytes: usize::from(ty.bytes()),
    })
}

fn tensor(line: &mut Line, route: Route, reduces: bool) -> Result<Hopper> {
    let Some(rank) = line.take_one(&["1d", "2d", "3d", "4d", "5d"]) else {
        return line.unknown();
    };
    let rank = usize::from(rank.as_bytes()[0] - b'0');
    line.ignore(&["tile", "L2", "cta_group::1"]);
    if route == Route::Prefetch {
        line.take("global");
    }
    let blocks = line.take("multicast::cluster");
    let hint = line.take("L2::cache_hint");
    let reduce = if reduces {
        line.decoder.program.ordered = true;
        Some(operation(line)?)
    } else {
        None
    };
    let (map_at, fixed) = match route {
        Route::GlobalToShared => (1, 3),
        Route::Prefetch => (0, 1),
        _ => (0, 2),
    };
    let count = fixed + usize::from(blocks) + usize::from(hint);
    line.finish(count..=count)?;
    let (map, more) = line.address_and_more(map_at, &mut Space::Generic)?;
    let [Operand::List(items)] = more else {
        return line.error("the coordinates are missing");
    };
    let mut coordinates = vec![];
    for item in items {
        coordinates.push(line.source_of(item, Bank::Word, 32)?);
    }
    if coordinates.len() != rank {
        return line.error("the number of coordinates does not fit");
    }
    let (shared, barrier) = match route {
        Route::GlobalToShared => (
            line.address(0, &mut Space::Shared)?,
            Some(line.address(2, &mut Space::Shared)?),
        ),
        Route::Prefetch => (map, None),
        _ => (line.address(1, &mut Space::Shared)?, None),
    };
    Ok(Hopper::Tensor(TensorCopy {
        route,
        map,
        coordinates,
        shared,
        barrier,
        blocks: if blocks {
            Some(line.source::<u16>(3)?)
        } else {
            None
        },
        reduce,
    }))
}

fn tensor_map(line: &mut Line) -> Result<Hopper> {
    if line.take("cp_fenceproxy") {
        line.ignore(&[
            "tensormap::generic",
            "release",
            "cta",
            "cluster",
            "gpu",
            "sys",
            "sync",
            "aligned",
        ]);
        if !line.take("global") || !line.take("shared::cta") {
            return line.unknown();
        }
        line.finish(3..=3)?;
        if line.constant(2)? != 128 {
            return line.error("a tensor map has 128 bytes");
        }
        return Ok(Hopper::CopyMap {
            to: line.address(0, &mut Space::Global)?,
            from: line.address(1, &mut Space::Shared)?,
        });
    }
    if !line.take("replace") || !line.take("tile") {
        return line.unknown();
    }
    line.take("b1024");
    let wide = match line.ty()? {
        Type::B(64) => true,
        Type::B(32) => false,
        _ => return line.unknown(),
    };
    let mut space = line.space();
    let Some(name) = line.take_one(&[
        "global_address",
        "rank",
        "box_dim",
        "global_dim",
        "global_stride",
        "element_stride",
        "elemtype",
        "interleave_layout",
        "swizzle_mode",
        "swizzle_atomicity",
        "fill_mode",
    ]) else {
        return line.unknown();
    };
    let indexed = matches!(
        name,
        "box_dim" | "global_dim" | "global_stride" | "element_stride"
    );
    let last = 1 + usize::from(indexed);
    line.finish(last + 1..=last + 1)?;
    let dimension = if indexed {
        line.constant(1)? as usize
    } else {
        0
    };
    let Some(field) = Field::named(name, dimension) else {
        return line.error("there is no such dimension");
    };
    let (bank, bits) = if wide {
        (Bank::Double, 64)
    } else {
        (Bank::Word, 32)
    };
    let value = Register {
        bank,
        slot: line.source_of(line.operand(last)?, bank, bits)?,
        bits,
    };
    Ok(Hopper::Replace {
        map: line.address(0, &mut space)?,
        space,
        field,
        value,
    })
}

/// `st.async` and `red.async`
fn store(line: &mut Line) -> Result<Hopper> {
    let reduces = line.name == "red";
    line.ignore(&["async", "weak", "relaxed", "cluster"]);
    let known = line.take("mbarrier::complete_tx::bytes");
    line.take("shared::cluster");
    if !known {
        return line.unknown();
    }
    let reduce = if reduces {
        Some(reduction(line, Route::SharedToShared)?)
    } else {
        None
    };
    let (bytes, count) = match reduce {
        Some(reduce) => (reduce.bytes, 1),
        None => {
            let count = match line.take_one(&["v2", "v4"]) {
                None => 1,
                Some("v2") => 2,
                Some(_) => 4,
            };
            (usize::from(line.ty()?.bytes()), count)
        }
    };
    if !matches!(bytes, 4 | 8) {
        return line.unknown();
    }
    line.finish(3..=3)?;
    let bank = if bytes == 8 { Bank::Double } else { Bank::Word };
    let mut values = vec![];
    for item in line.items(1)? {
        let bits = 8 * bytes as u8;
        values.push(Register {
            bank,
            slot: line.source_of(item, bank, bits)?,
            bits,
        });
    }
    if values.len() != count {
        return line.error("the source does not fit the type");
    }
    line.decoder.program.granule = line.decoder.program.granule.min(bytes as u64);
    Ok(Hopper::StoreAsync {
        address: line.address(0, &mut Space::Shared)?,
        barrier: line.address(2, &mut Space::Shared)?,
        bytes,
        values,
        reduce,
    })
}
