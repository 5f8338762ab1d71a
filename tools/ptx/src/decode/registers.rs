//! Registers that a kernel declares, and those that the decoder adds.

use super::decoder::Decoder;
use super::slots;
use crate::error::{Error, Result};
use crate::exec::registers::Bank;
use crate::program::{Fill, Register};
use crate::types::Type;

/// Registers of a kind, with all that is called.
const MOST_REGISTERS: usize = 1 << 18;

impl Decoder<'_> {
    /// Gives numbers to the registers that a declaration names.
    pub fn registers(
        &mut self,
        ty: Type,
        names: &[(String, Option<u32>)],
        line: u32,
    ) -> Result<()> {
        let bank = match ty.bits() {
            1 => Bank::Predicate,
            8 | 16 | 32 => Bank::Word,
            64 => Bank::Double,
            bits => {
                let message = format!("registers of {bits} bits are not known");
                return Err(Error::at(line, message));
            }
        };
        for (name, count) in names {
            let register = Register {
                bank,
                slot: self.numbered,
                bits: ty.bits(),
            };
            self.numbered += count.unwrap_or(1) as usize;
            if self.numbered - slots::NUMBERED > MOST_REGISTERS {
                return Err(Error::at(
                    line,
                    format!("more than {MOST_REGISTERS} registers"),
                ));
            }
            match count {
                Some(count) => self.scopes.declare_range(name, register, *count),
                None => self.scopes.declare_register(name, register),
            }
        }
        Ok(())
    }

    fn bank(&mut self, bank: Bank) -> &mut usize {
        match bank {
            Bank::Predicate => &mut self.program.predicates,
            Bank::Word => &mut self.program.words,
            Bank::Double => &mut self.program.doubles,
        }
    }

    /// A register of its own.
    pub fn fresh(&mut self, bank: Bank) -> usize {
        let slots = self.bank(bank);
        *slots += 1;
        *slots - 1
    }

    /// The register that always holds a value.
    pub fn constant(&mut self, bank: Bank, fill: Fill) -> usize {
        if let Some(slot) = self.constants.get(&(bank, fill)) {
            return *slot;
        }
        let slot = self.fresh(bank);
        self.constants.insert((bank, fill), slot);
        self.program.fills.push((bank, slot, fill));
        slot
    }

    /// The predicate that holds the carry flag.
    pub fn carry(&mut self) -> usize {
        if self.carry.is_none() {
            self.carry = Some(self.fresh(Bank::Predicate));
        }
        self.carry.expect("set above")
    }
}
