//! One instruction while it is decoded: its suffixes are taken one by one, its operands become slots.

use half::{bf16, f16};

use super::decoder::Decoder;
use super::rounding::Rounding;
use super::symbols::{Symbol, special};
use crate::error::{Error, Result};
use crate::exec::registers::{Bank, LANES, Lane, Registers};
use crate::program::{Action, Address, Fill, Register};
use crate::text::ast::{Immediate, Instruction, Operand};
use crate::types::{Space, Type};

pub(super) struct Line<'d, 'm> {
    pub decoder: &'d mut Decoder<'m>,
    pub instruction: &'m Instruction,
    /// The opcode without suffixes.
    pub name: &'m str,
    /// Suffixes nobody has taken yet.
    suffixes: Vec<&'m str>,
}

impl<'d, 'm> Line<'d, 'm> {
    pub fn new(decoder: &'d mut Decoder<'m>, instruction: &'m Instruction) -> Self {
        let mut parts = instruction.opcode.split('.');
        let name = parts.next().unwrap_or_default();
        Line {
            decoder,
            instruction,
            name,
            suffixes: parts.collect(),
        }
    }

    pub fn error<T>(&self, message: impl std::fmt::Display) -> Result<T> {
        let opcode = &self.instruction.opcode;
        Err(Error::at(
            self.instruction.line,
            format!("`{opcode}`: {message}"),
        ))
    }

    /// The error of an opcode that is known, with types or suffixes that are not.
    pub fn unknown<T>(&self) -> Result<T> {
        self.error("this form of the instruction is not known")
    }

    /// Fails if a suffix was not taken or an operand too many is there.
    pub fn finish(&self, operands: std::ops::RangeInclusive<usize>) -> Result<()> {
        if let Some(suffix) = self.suffixes.first() {
            return self.error(format!("the suffix .{suffix} is not known here"));
        }
        let count = self.instruction.operands.len();
        if !operands.contains(&count) {
            return self.error(format!("{count} operands"));
        }
        Ok(())
    }

    // suffixes

    /// True if a suffix is there; it stays.
    pub fn has(&self, suffix: &str) -> bool {
        self.suffixes.contains(&suffix)
    }

    /// Takes a suffix if it is there.
    pub fn take(&mut self, suffix: &str) -> bool {
        match self.suffixes.iter().position(|s| *s == suffix) {
            Some(at) => {
                self.suffixes.remove(at);
                true
            }
            None => false,
        }
    }

    /// Takes the first of these that is there.
    pub fn take_one(&mut self, suffixes: &[&'static str]) -> Option<&'static str> {
        suffixes.iter().copied().find(|suffix| self.take(suffix))
    }

    /// Takes the first suffix that `f` knows.
    pub fn take_map<T>(&mut self, f: impl Fn(&str) -> Option<T>) -> Option<T> {
        let at = self.suffixes.iter().position(|s| f(s).is_some())?;
        f(self.suffixes.remove(at))
    }

    /// Takes suffixes that do not change what is computed.
    pub fn ignore(&mut self, suffixes: &[&str]) {
        self.suffixes.retain(|suffix| !suffixes.contains(suffix));
    }

    pub fn ignore_prefixed(&mut self, prefixes: &[&str]) {
        let ignored = |suffix: &&str| prefixes.iter().any(|prefix| suffix.starts_with(prefix));
        self.suffixes.retain(|suffix| !ignored(suffix));
    }

    /// Takes all types, in order.
    pub fn types(&mut self) -> Vec<Type> {
        let types = self
            .suffixes
            .iter()
            .filter_map(|s| Type::parse(s))
            .collect();
        self.suffixes.retain(|s| Type::parse(s).is_none());
        types
    }

    /// The last type, which stays.
    pub fn peek_type(&self) -> Option<Type> {
        self.suffixes.iter().rev().find_map(|s| Type::parse(s))
    }

    /// Takes the one type.
    pub fn ty(&mut self) -> Result<Type> {
        match self.types()[..] {
            [ty] => Ok(ty),
            _ => self.error("one type expected"),
        }
    }

    pub fn rounding(&mut self) -> Option<Rounding> {
        let rounding =
            self.take_one(&["rn", "rna", "rz", "rm", "rp", "rni", "rzi", "rmi", "rpi"])?;
        Some(match rounding {
            "rn" | "rni" => Rounding::Nearest,
            "rna" => Rounding::Away,
            "rz" | "rzi" => Rounding::Zero,
            "rm" | "rmi" => Rounding::Down,
            _ => Rounding::Up,
        })
    }

    /// The state space, generic if none is written.
    pub fn space(&mut self) -> Space {
        let spaces = [
            ("global", Space::Global),
            ("const", Space::Global),
            ("shared", Space::Shared),
            ("shared::cta", Space::Shared),
            ("shared::cluster", Space::Shared),
            ("local", Space::Local),
            ("param", Space::Param),
            ("param::entry", Space::Param),
            ("param::func", Space::Param),
        ];
        let found = spaces.iter().find(|(suffix, _)| self.take(suffix));
        found.map_or(Space::Generic, |(_, space)| *space)
    }

    // operands

    pub fn count(&self) -> usize {
        self.instruction.operands.len()
    }

    pub fn operand(&self, index: usize) -> Result<&'m Operand> {
        match self.instruction.operands.get(index) {
            Some(operand) => Ok(operand),
            None => self.error(format!("operand {} is missing", index + 1)),
        }
    }

    /// An operand that must be a number in the text.
    pub fn constant(&self, index: usize) -> Result<u64> {
        match self.operand(index)? {
            Operand::Immediate(Immediate::Integer(value)) => Ok(*value),
            operand => self.error(format!("{} is not a constant", operand.describe())),
        }
    }

    /// The register an operand names.
    pub fn register(&self, operand: &Operand) -> Result<Register> {
        if let Operand::Name(name, 0) = operand
            && let Some(register) = self.decoder.scopes.register(name)
        {
            return Ok(register);
        }
        self.error(format!("{} is not a register", operand.describe()))
    }

    /// Slot to read an operand of type `T` from.
    pub fn source<T: Lane>(&mut self, index: usize) -> Result<usize> {
        let operand = self.operand(index)?;
        self.source_of(operand, T::BANK, T::BITS)
    }

    pub fn source_of(&mut self, operand: &Operand, bank: Bank, bits: u8) -> Result<usize> {
        match operand {
            Operand::Name(name, offset) => {
                if let (Some(register), 0) = (self.decoder.scopes.register(name), *offset) {
                    // an f32 register of 32 bits may not stand where 16 are wanted, except where the text says cvt
                    if register.bank != bank
                        || (register.bits < bits && bank == Bank::Word && bits == 32)
                    {
                        return self.error(format!(
                            "{name} has {} bits where {bits} are wanted",
                            register.bits
                        ));
                    }
                    return Ok(register.slot);
                }
                if let Some((home, special)) = special(name) {
                    if home != bank {
                        return self.error(format!("{name} where {bits} bits are wanted"));
                    }
                    return Ok(self.decoder.constant(bank, Fill::Special(special)));
                }
                let fill = self.symbol_address(name, *offset)?;
                if bank == Bank::Predicate
                    || (bank == Bank::Word && matches!(fill, Fill::Variable(..)))
                {
                    return self.error(format!("the address {name} where {bits} bits are wanted"));
                }
                Ok(self.decoder.constant(bank, fill))
            }
            Operand::Immediate(value) => {
                let value = match (*value, bits) {
                    (Immediate::F32(value), 32) => u64::from(value),
                    (Immediate::F32(value), 64) => f64::from(f32::from_bits(value)).to_bits(),
                    (Immediate::F64(value), 64) => value,
                    (Immediate::F64(value), 32) => (f64::from_bits(value) as f32).to_bits().into(),
                    (Immediate::Integer(value), 64) => value,
                    (Immediate::Integer(value), _) => value & ((1 << bits) - 1),
                    _ => return self.error("this immediate does not fit its operand"),
                };
                Ok(self.decoder.constant(bank, Fill::Value(value)))
            }
            _ => self.error(format!("{} as a source is not known", operand.describe())),
        }
    }

    fn symbol_address(&self, name: &str, offset: i64) -> Result<Fill> {
        let plus = |base: u64| Fill::Value(base.wrapping_add(offset as u64));
        match self.decoder.scopes.symbol(name) {
            Some(Symbol::Shared(at) | Symbol::Local(at) | Symbol::Param(at)) => Ok(plus(at)),
            Some(Symbol::Variable(index)) => Ok(Fill::Variable(index, offset)),
            Some(Symbol::CallParam(..)) => self.error(format!(
                "the address of {name}, a parameter of a function, is not known"
            )),
            None if name == "WARP_SZ" => Ok(plus(LANES as u64)),
            None => match self.decoder.module.function_address(name) {
                Some(address) => Ok(plus(address)),
                None => self.error(format!("{name} is not declared")),
            },
        }
    }

    /// Slot to write a result of type `T` to.
    pub fn dest<T: Lane>(&mut self, index: usize) -> Result<usize> {
        let operand = self.operand(index)?;
        self.dest_of(operand, T::BANK, T::BITS)
    }

    pub fn dest_of(&mut self, operand: &Operand, bank: Bank, bits: u8) -> Result<usize> {
        if matches!(operand, Operand::Name(name, 0) if name == "_") {
            return Ok(self.decoder.fresh(bank));
        }
        let register = self.register(operand)?;
        if register.bank != bank {
            return self.error(format!(
                "{} has {} bits where {bits} are wanted",
                operand.describe(),
                register.bits
            ));
        }
        Ok(register.slot)
    }

    /// Slot of a predicate, and whether it is negated.
    pub fn predicate(&mut self, index: usize) -> Result<(usize, bool)> {
        match self.operand(index)? {
            Operand::Not(name) => {
                let slot = self.source_of(&Operand::Name(name.clone(), 0), Bank::Predicate, 1)?;
                Ok((slot, true))
            }
            operand => Ok((self.source_of(operand, Bank::Predicate, 1)?, false)),
        }
    }

    /// The items of `{...}`, or the operand itself.
    pub fn items(&self, index: usize) -> Result<&'m [Operand]> {
        match self.operand(index)? {
            Operand::List(items) => Ok(items),
            operand => Ok(std::slice::from_ref(operand)),
        }
    }

    /// Word slots of the items of `{...}`.
    pub fn words(&mut self, index: usize, write: bool) -> Result<Vec<usize>> {
        let items = self.items(index)?;
        let mut slots = vec![];
        for item in items {
            slots.push(if write {
                self.dest_of(item, Bank::Word, 32)?
            } else {
                self.source_of(item, Bank::Word, 32)?
            });
        }
        Ok(slots)
    }

    /// The address in `[...]`. A parameter of a function turns `space` from param to local.
    pub fn address(&mut self, index: usize, space: &mut Space) -> Result<Address> {
        match self.address_and_more(index, space)? {
            (address, []) => Ok(address),
            _ => self.unknown(),
        }
    }

    /// The address in `[address, more]`, and what else is there.
    pub fn address_and_more(
        &mut self,
        index: usize,
        space: &mut Space,
    ) -> Result<(Address, &'m [Operand])> {
        let operand = self.operand(index)?;
        let Operand::Address { base, offset, more } = operand else {
            return self.error(format!("{} is not an address", operand.describe()));
        };
        if let Operand::Name(name, 0) = &**base
            && let Some(register) = self.decoder.scopes.register(name)
        {
            if register.bank == Bank::Predicate {
                return self.error(format!("{name} is not an address"));
            }
            let address = Address {
                base: register,
                offset: *offset,
            };
            return Ok((address, more));
        }
        let fill = match &**base {
            Operand::Name(name, _) => match self.decoder.scopes.symbol(name) {
                Some(Symbol::CallParam(at, _)) if *space == Space::Param => {
                    *space = Space::Local;
                    Fill::Value(at)
                }
                Some(Symbol::Shared(at)) if *space == Space::Generic => {
                    *space = Space::Shared;
                    Fill::Value(at)
                }
                _ => self.symbol_address(name, 0)?,
            },
            Operand::Immediate(Immediate::Integer(value)) => Fill::Value(*value),
            base => return self.error(format!("{} is not an address", base.describe())),
        };
        let address = Address {
            base: Register {
                bank: Bank::Double,
                slot: self.decoder.constant(Bank::Double, fill),
                bits: 64,
            },
            offset: *offset,
        };
        Ok((address, more))
    }

    // computations, lane by lane

    /// `d = f(a)`
    pub fn map1<A: Lane, D: Lane>(
        &mut self,
        f: impl Fn(A) -> D + Send + Sync + 'static,
    ) -> Result<Action> {
        self.finish(2..=2)?;
        let (d, a) = (self.dest::<D>(0)?, self.source::<A>(1)?);
        Ok(compute(
            #[inline(always)]
            move |registers, mask| {
                let a = A::get(registers, a);
                let mut out = [D::default(); LANES];
                for lane in 0..LANES {
                    out[lane] = f(a[lane]);
                }
                D::set(registers, d, out, mask);
            },
        ))
    }

    /// `d = f(a, b)`
    pub fn map2<A: Lane, B: Lane, D: Lane>(
        &mut self,
        f: impl Fn(A, B) -> D + Send + Sync + 'static,
    ) -> Result<Action> {
        self.finish(3..=3)?;
        let (d, a, b) = (
            self.dest::<D>(0)?,
            self.source::<A>(1)?,
            self.source::<B>(2)?,
        );
        Ok(compute(
            #[inline(always)]
            move |registers, mask| {
                let (a, b) = (A::get(registers, a), B::get(registers, b));
                let mut out = [D::default(); LANES];
                for lane in 0..LANES {
                    out[lane] = f(a[lane], b[lane]);
                }
                D::set(registers, d, out, mask);
            },
        ))
    }

    /// `d = f(a, b, c)`
    pub fn map3<A: Lane, B: Lane, C: Lane, D: Lane>(
        &mut self,
        f: impl Fn(A, B, C) -> D + Send + Sync + 'static,
    ) -> Result<Action> {
        self.finish(4..=4)?;
        let (d, a) = (self.dest::<D>(0)?, self.source::<A>(1)?);
        let (b, c) = (self.source::<B>(2)?, self.source::<C>(3)?);
        Ok(compute(
            #[inline(always)]
            move |registers, mask| {
                let (a, b) = (A::get(registers, a), B::get(registers, b));
                let c = C::get(registers, c);
                let mut out = [D::default(); LANES];
                for lane in 0..LANES {
                    out[lane] = f(a[lane], b[lane], c[lane]);
                }
                D::set(registers, d, out, mask);
            },
        ))
    }
}

/// An action that computes in registers. It is compiled for the vector instructions of several machines; large
/// closures must be `#[inline(always)]` to have a part in that.
pub(super) fn compute(f: impl Fn(&mut Registers, u32) + Send + Sync + 'static) -> Action {
    let arch = pulp::Arch::new();
    Action::Compute(Box::new(move |registers, mask| {
        let f = &f;
        arch.dispatch(Run { f, registers, mask })
    }))
}

struct Run<'r, F> {
    f: &'r F,
    registers: &'r mut Registers,
    mask: u32,
}

impl<F: Fn(&mut Registers, u32)> pulp::NullaryFnOnce for Run<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        (self.f)(self.registers, self.mask)
    }
}

/// The two halves of a packed register, as f64.
pub(super) trait Half: Lane {
    fn to_f64(self) -> f64;
    fn round(x: f64) -> Self;
}

impl Half for f16 {
    fn to_f64(self) -> f64 {
        f64::from(self.to_f32())
    }
    fn round(x: f64) -> f16 {
        super::rounding::to_f16(x, Rounding::Nearest)
    }
}

impl Half for bf16 {
    fn to_f64(self) -> f64 {
        f64::from(self.to_f32())
    }
    fn round(x: f64) -> bf16 {
        super::rounding::to_bf16(x, Rounding::Nearest)
    }
}
