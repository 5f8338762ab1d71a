//! Loads, stores, atomics and asynchronous copies.

use super::line::Line;
use crate::counters::Class;
use crate::error::Result;
use crate::exec::registers::Bank;
use crate::program::{
    Access, Action, AsyncCopy, Atomic, AtomicOp, AtomicType, MbarrierOp, Register,
};
use crate::text::ast::Operand;
use crate::types::{Space, Type};

pub(super) fn decode(line: &mut Line) -> Result<Option<(Action, Class)>> {
    Ok(Some(match line.name {
        "ld" | "ldu" => load(line)?,
        "st" => store(line)?,
        "atom" | "red" => atomic(line)?,
        "cp" => copy(line)?,
        "prefetch" | "prefetchu" | "applypriority" | "discard" if line.name != "discard" => {
            line.ignore(&["L1", "L2", "L2::evict_last", "L2::evict_normal"]);
            line.space();
            line.finish(1..=2)?;
            (Action::Fence, Class::Other)
        }
        _ => return Ok(None),
    }))
}

/// The class of an access, by where it goes.
fn class(space: Space, write: bool) -> Class {
    match (space, write) {
        (Space::Shared, false) => Class::LoadShared,
        (Space::Shared, true) => Class::StoreShared,
        (Space::Local, _) => Class::Local,
        (Space::Param, _) => Class::Param,
        (_, false) => Class::LoadGlobal,
        (_, true) => Class::StoreGlobal,
    }
}

/// Suffixes of caching, scope and order; true if the access is meant to meet those of others.
fn qualifiers(line: &mut Line) -> bool {
    line.ignore(&[
        "ca", "cg", "cs", "cv", "lu", "wb", "wt", "nc", "weak", "cta", "gpu", "sys", "cluster",
    ]);
    line.ignore_prefixed(&["L1::", "L2::"]);
    let order = [
        "volatile", "relaxed", "acquire", "release", "acq_rel", "mmio",
    ];
    line.take_one(&order).is_some()
}

/// Notes what the checks of a program need to know about its accesses.
fn note(line: &mut Line, access: &Access) {
    let program = &mut line.decoder.program;
    if matches!(access.space, Space::Shared | Space::Generic) {
        program.granule = program.granule.min(access.bytes as u64);
    }
    if access.strong && matches!(access.space, Space::Global | Space::Generic) {
        program.ordered = true;
    }
}

/// Elements of a vector.
fn count(line: &mut Line) -> usize {
    match line.take_one(&["v2", "v4", "v8"]) {
        None => 1,
        Some("v2") => 2,
        Some("v4") => 4,
        Some(_) => 8,
    }
}

fn access(line: &mut Line, at: usize) -> Result<(Access, Type)> {
    let strong = qualifiers(line);
    let mut space = line.space();
    let count = count(line);
    let ty = line.ty()?;
    if ty == Type::Pred || ty.bits() == 128 {
        return line.unknown();
    }
    let address = line.address(at, &mut space)?;
    let access = Access {
        space,
        address,
        bytes: usize::from(ty.bytes()),
        count,
        strong,
    };
    note(line, &access);
    Ok((access, ty))
}

/// A cache policy as last operand.
fn policy(line: &mut Line, operands: usize) -> Result<()> {
    let policy = line.take("L2::cache_hint");
    let count = operands + usize::from(policy);
    line.finish(count..=count)
}

fn load(line: &mut Line) -> Result<(Action, Class)> {
    let policy_taken = line.has("L2::cache_hint");
    let (access, ty) = access(line, 1)?;
    line.finish(2..=2 + usize::from(policy_taken))?;
    let mut dest = vec![];
    for item in line.items(0)? {
        dest.push(match item {
            Operand::Name(name, 0) if name == "_" => None,
            item => Some(line.register(item)?),
        });
    }
    let narrow = |r: &Register| r.bank == Bank::Predicate || r.bits < ty.bits();
    if dest.len() != access.count || dest.iter().flatten().any(narrow) {
        return line.error("the destination does not fit the type");
    }
    let action = Action::Load {
        access,
        dest,
        signed: ty.is_signed(),
    };
    Ok((action, class(access.space, false)))
}

/// A register to store from; a constant has one too.
fn stored(line: &mut Line, item: &Operand, ty: Type) -> Result<Register> {
    if let Ok(register) = line.register(item) {
        if register.bank == Bank::Predicate || register.bits < ty.bits() {
            return line.error("the source does not fit the type");
        }
        return Ok(register);
    }
    let bank = if ty.bits() == 64 {
        Bank::Double
    } else {
        Bank::Word
    };
    Ok(Register {
        bank,
        slot: line.source_of(item, bank, ty.bits())?,
        bits: ty.bits(),
    })
}

fn store(line: &mut Line) -> Result<(Action, Class)> {
    let policy_taken = line.has("L2::cache_hint");
    let (access, ty) = access(line, 0)?;
    line.finish(2..=2 + usize::from(policy_taken))?;
    let mut source = vec![];
    for item in line.items(1)? {
        source.push(stored(line, item, ty)?);
    }
    if source.len() != access.count {
        return line.error("the source does not fit the type");
    }
    let class = class(access.space, true);
    Ok((Action::Store { access, source }, class))
}

fn atomic(line: &mut Line) -> Result<(Action, Class)> {
    qualifiers(line);
    let mut space = line.space();
    // half precision atomics do not flush
    line.take("noftz");
    let operations = [
        ("add", AtomicOp::Add),
        ("min", AtomicOp::Min),
        ("max", AtomicOp::Max),
        ("inc", AtomicOp::Inc),
        ("dec", AtomicOp::Dec),
        ("and", AtomicOp::And),
        ("or", AtomicOp::Or),
        ("xor", AtomicOp::Xor),
        ("exch", AtomicOp::Exchange),
        ("cas", AtomicOp::Compare),
    ];
    let Some((_, op)) = operations.into_iter().find(|(name, _)| line.take(name)) else {
        return line.unknown();
    };
    let count = count(line);
    let ty = line.ty()?;
    let element = match ty {
        Type::U(32 | 64) | Type::B(16 | 32 | 64) => AtomicType::Unsigned,
        Type::S(32 | 64) => AtomicType::Signed,
        Type::F32 => AtomicType::F32,
        Type::F64 => AtomicType::F64,
        Type::F16 => AtomicType::F16,
        Type::BF16 => AtomicType::BF16,
        Type::F16x2 => AtomicType::F16x2,
        Type::BF16x2 => AtomicType::BF16x2,
        _ => return line.unknown(),
    };
    let float = !matches!(element, AtomicType::Unsigned | AtomicType::Signed);
    let bits = matches!(ty, Type::B(_));
    // vectors of 16 bytes at most, of floats
    let vector = float && ty != Type::F64 && count * usize::from(ty.bytes()) <= 16;
    let allowed = match op {
        _ if count > 1 && !vector => false,
        AtomicOp::Min | AtomicOp::Max if count > 1 => ty != Type::F32,
        AtomicOp::Add => !bits,
        AtomicOp::Min | AtomicOp::Max => !bits && !float,
        AtomicOp::Inc | AtomicOp::Dec => ty == Type::U(32),
        AtomicOp::And | AtomicOp::Or | AtomicOp::Xor => bits && ty.bits() >= 32,
        AtomicOp::Exchange => bits && ty.bits() >= 32,
        AtomicOp::Compare => bits,
    };
    if !allowed {
        return line.unknown();
    }
    let returns = line.name == "atom";
    let first = usize::from(returns);
    let operands = first + 2 + usize::from(op == AtomicOp::Compare);
    policy(line, operands)?;
    let address = line.address(first, &mut space)?;
    let mut dest = vec![];
    if returns {
        for item in line.items(0)? {
            dest.push(match item {
                Operand::Name(name, 0) if name == "_" => None,
                item => Some(line.register(item)?),
            });
        }
    }
    let mut values = vec![];
    for item in line.items(first + 1)? {
        values.push(stored(line, item, ty)?);
    }
    let narrow = |r: &Register| r.bank == Bank::Predicate || r.bits < ty.bits();
    let fits = !returns || dest.len() == count && !dest.iter().flatten().any(narrow);
    if values.len() != count || !fits {
        return line.error("the number of registers does not fit");
    }
    let swap = if op == AtomicOp::Compare {
        Some(stored(line, line.operand(first + 2)?, ty)?)
    } else {
        None
    };
    let access = Access {
        space,
        address,
        bytes: usize::from(ty.bytes()),
        count,
        strong: true,
    };
    note(line, &access);
    let atomic = Atomic {
        access,
        op,
        ty: element,
        dest,
        values,
        swap,
    };
    Ok((Action::Atomic(atomic), Class::Atomic))
}

fn copy(line: &mut Line) -> Result<(Action, Class)> {
    if !line.take("async") {
        return line.unknown();
    }
    if line.take("commit_group") {
        line.finish(0..=0)?;
        return Ok((Action::AsyncCommit, Class::AsyncCopy));
    }
    if line.take("wait_all") {
        line.finish(0..=0)?;
        return Ok((Action::AsyncWait(None), Class::AsyncCopy));
    }
    if line.take("wait_group") {
        line.finish(1..=1)?;
        let groups = line.constant(0)? as u32;
        return Ok((Action::AsyncWait(Some(groups)), Class::AsyncCopy));
    }
    if line.take("mbarrier") {
        if !line.take("arrive") {
            return line.unknown();
        }
        let noinc = line.take("noinc");
        line.take("b64");
        let mut space = line.space();
        line.finish(1..=1)?;
        let address = line.address(0, &mut space)?;
        let action = Action::Mbarrier {
            address,
            shared: space == Space::Shared,
            op: MbarrierOp::ArriveAfterCopies { noinc },
        };
        return Ok((action, Class::AsyncCopy));
    }
    if !line.take("ca") && !line.take("cg") {
        return line.unknown();
    }
    let shared = line.take("shared") || line.take("shared::cta");
    if !shared || !line.take("global") {
        return line.unknown();
    }
    let hint = line.take("L2::cache_hint");
    line.ignore_prefixed(&["L2::"]);
    let operands = line.count() - usize::from(hint);
    line.finish(3..=5)?;
    let (mut to, mut from) = (Space::Shared, Space::Global);
    let (shared, global) = (line.address(0, &mut to)?, line.address(1, &mut from)?);
    let bytes = line.constant(2)? as usize;
    if ![4, 8, 16].contains(&bytes) {
        return line.error("a copy has 4, 8 or 16 bytes");
    }
    let (mut source_bytes, mut ignore) = (None, None);
    if operands == 4 {
        let operand = line.operand(3)?;
        let predicate = match operand {
            Operand::Not(_) => true,
            operand => line
                .register(operand)
                .is_ok_and(|r| r.bank == Bank::Predicate),
        };
        if predicate {
            ignore = Some(line.predicate(3)?);
        } else {
            source_bytes = Some(line.source::<u32>(3)?);
        }
    } else if operands == 5 {
        return line.unknown();
    }
    line.decoder.program.granule = line.decoder.program.granule.min(bytes as u64);
    let copy = AsyncCopy {
        shared,
        global,
        bytes,
        source_bytes,
        ignore,
    };
    Ok((Action::AsyncCopy(copy), Class::AsyncCopy))
}
