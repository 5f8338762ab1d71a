//! Barriers in shared memory.

use super::line::Line;
use crate::counters::Class;
use crate::error::Result;
use crate::exec::registers::Lane;
use crate::program::{Action, MbarrierOp};
use crate::text::ast::Operand;
use crate::types::Space;

const OPERATIONS: [&str; 9] = [
    "init",
    "inval",
    "arrive",
    "arrive_drop",
    "test_wait",
    "try_wait",
    "expect_tx",
    "complete_tx",
    "pending_count",
];

pub(super) fn decode(line: &mut Line) -> Result<Option<(Action, Class)>> {
    if line.name != "mbarrier" {
        return Ok(None);
    }
    let operation = line.take_one(&OPERATIONS).unwrap_or_default();
    line.take("b64");
    let parity = line.take("parity");
    line.ignore(&["acquire", "release", "relaxed", "cta", "cluster"]);
    if operation == "pending_count" {
        return pending_count(line);
    }
    let expects = line.take("expect_tx");
    let holds_back = line.take("noComplete");
    // an address in a register may be written without a space
    let mut space = line.space();
    let at = match operation {
        "init" | "inval" | "expect_tx" | "complete_tx" => 0,
        // the token may be left out
        "arrive" | "arrive_drop" => {
            usize::from(!matches!(line.operand(0)?, Operand::Address { .. }))
        }
        _ => 1,
    };
    let op = match operation {
        "init" => {
            line.finish(2..=2)?;
            MbarrierOp::Init {
                count: line.source::<u32>(1)?,
            }
        }
        "inval" => {
            line.finish(1..=1)?;
            MbarrierOp::Invalidate
        }
        "expect_tx" | "complete_tx" => {
            line.finish(2..=2)?;
            let bytes = line.source::<u32>(1)?;
            if operation == "expect_tx" {
                MbarrierOp::Expect { bytes }
            } else {
                MbarrierOp::Complete { bytes }
            }
        }
        "arrive" | "arrive_drop" => {
            line.finish(at + 1..=at + 2)?;
            let token = match line.operand(0)? {
                _ if at == 0 => None,
                Operand::Name(name, 0) if name == "_" => None,
                _ => Some(line.dest::<u64>(0)?),
            };
            let last = if line.count() == at + 2 {
                Some(line.source::<u32>(at + 1)?)
            } else {
                None
            };
            if expects && last.is_none() {
                return line.error("the number of bytes is missing");
            }
            MbarrierOp::Arrive {
                count: last.filter(|_| !expects),
                token,
                drop: operation == "arrive_drop",
                expect: last.filter(|_| expects),
                holds_back,
            }
        }
        "test_wait" | "try_wait" => {
            // a hint of how long to wait may follow
            line.finish(3..=4)?;
            MbarrierOp::Test {
                dest: line.dest::<bool>(0)?,
                phase: if parity {
                    line.source::<u32>(2)?
                } else {
                    line.source::<u64>(2)?
                },
                parity,
            }
        }
        _ => return line.error("this operation on barriers in memory is not known"),
    };
    let address = line.address(at, &mut space)?;
    line.decoder.program.granule = line.decoder.program.granule.min(8);
    let action = Action::Mbarrier {
        address,
        shared: space == Space::Shared,
        op,
    };
    Ok(Some((action, Class::Barrier)))
}

/// The arrivals that were missing when a token was made.
fn pending_count(line: &mut Line) -> Result<Option<(Action, Class)>> {
    line.finish(2..=2)?;
    let (dest, token) = (line.dest::<u32>(0)?, line.source::<u64>(1)?);
    let action = super::line::compute(move |registers, mask| {
        let tokens = u64::get(registers, token);
        let counts = tokens.map(|token| (token >> crate::hopper::TOKEN_SHIFT) as u32);
        u32::set(registers, dest, counts, mask);
    });
    Ok(Some((action, Class::Barrier)))
}
