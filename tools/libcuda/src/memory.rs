//! Memory that the program asked for: who owns it, where it lies, whether it is still there.
//!
//! Device memory lives in the interpreter. Memory that the host sees too (managed, pinned, registered) lives in the
//! program; the interpreter has a block for it that is brought up to date before a kernel and read back after it.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::code::{Code, Result, fail, failure};
use crate::driver::{Driver, Handle};
use crate::host::{HostMemory, Mapping};

/// Addresses of the interpreter's own memory.
pub const DEVICE_RANGE: Range<u64> = 0x10_0000_0000..0x2000_0000_0000;
/// Bytes behind a block that still point to a mistake with this block.
const NEAR: u64 = 4096;

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Device,
    /// A variable of a module.
    Variable,
    /// Of a captured allocation: it lives as long as its graph.
    Graph,
    Managed,
    Pinned,
    Registered,
}

/// A piece of memory, by its address on the device.
pub struct Block {
    pub bytes: usize,
    pub kind: Kind,
    /// The call that made it.
    pub call: &'static str,
    pub context: Handle,
    pub flags: u32,
    /// Counts allocations.
    pub number: u64,
    pub freed: bool,
    /// Where the host sees it.
    pub host: Option<HostMemory>,
    /// The pages, if they are this library's.
    pages: Option<Mapping>,
}

/// All blocks there ever were: freed ones tell what an address was.
#[derive(Default)]
pub struct Memory {
    blocks: BTreeMap<u64, Block>,
    /// Live blocks that the host sees, by its address.
    hosts: BTreeMap<usize, u64>,
    used: u64,
    count: u64,
}

/// A memory pool. It limits nothing and keeps nothing.
#[derive(Debug, Default)]
pub struct Pool {
    pub attributes: BTreeMap<i32, u64>,
}

/// One end of a copy.
#[derive(Debug, Clone)]
pub enum Place {
    Device(u64),
    Host(HostMemory),
    /// Bytes that were read when the copy was asked for.
    Held(Vec<u8>),
}

impl Memory {
    /// The block an address belongs to, or lies closely behind.
    pub fn find(&self, address: u64) -> Option<(u64, &Block)> {
        let (base, block) = self.blocks.range(..=address).next_back()?;
        (address - base < block.bytes as u64 + NEAR).then_some((*base, block))
    }

    /// The live block that holds an address of the host.
    pub fn find_host(&self, address: usize) -> Option<(u64, &Block)> {
        let (_, base) = self.hosts.range(..=address).next_back()?;
        let block = &self.blocks[base];
        let host = block.host.expect("memory of the host");
        (address - host.address() < host.bytes()).then_some((*base, block))
    }

    /// Live blocks, by address.
    pub fn live(&self) -> impl Iterator<Item = (u64, &Block)> {
        let blocks = self.blocks.iter().filter(|(_, block)| !block.freed);
        blocks.map(|(base, block)| (*base, block))
    }

    /// Bytes of device memory in use.
    pub fn used(&self) -> u64 {
        self.used
    }

    fn insert(&mut self, base: u64, mut block: Block) {
        self.count += 1;
        block.number = self.count;
        if let Some(host) = block.host {
            self.hosts.insert(host.address(), base);
        }
        if block.kind.is_limited() {
            self.used += block.bytes as u64;
        }
        self.blocks.insert(base, block);
    }
}

impl Kind {
    /// Counts against the memory of the device.
    fn is_limited(self) -> bool {
        matches!(self, Kind::Device | Kind::Graph | Kind::Managed)
    }
}

impl Block {
    fn new(kind: Kind, call: &'static str, bytes: usize, context: Handle) -> Block {
        Block {
            bytes,
            kind,
            call,
            context,
            flags: 0,
            number: 0,
            freed: false,
            host: None,
            pages: None,
        }
    }
}

impl Driver {
    fn room(&self, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return fail(Code::INVALID_VALUE, "an allocation of 0 bytes");
        }
        let (used, all) = (self.memory.used, self.settings.memory);
        if bytes as u64 > all.saturating_sub(used) {
            let why = format!(
                "{bytes} bytes do not fit: {used} of {all} bytes are in use (TTT_INTERPRETED_MEMORY sets how many there are)"
            );
            return fail(Code::OUT_OF_MEMORY, why);
        }
        Ok(())
    }

    /// Address of new device memory.
    pub fn allocate(
        &mut self,
        call: &'static str,
        kind: Kind,
        bytes: usize,
        context: Handle,
    ) -> Result<u64> {
        self.room(bytes)?;
        let base = self.device.allocate(bytes);
        self.memory
            .insert(base, Block::new(kind, call, bytes, context));
        Ok(base)
    }

    /// Address of new memory that host and device see there.
    pub fn allocate_shared(
        &mut self,
        call: &'static str,
        kind: Kind,
        bytes: usize,
        context: Handle,
        flags: u32,
    ) -> Result<u64> {
        self.room(bytes)?;
        let none = || {
            failure(
                Code::OUT_OF_MEMORY,
                format!("the system has no {bytes} bytes"),
            )
        };
        let pages = Mapping::new(bytes).ok_or_else(none)?;
        let base = pages.memory().address() as u64;
        let placed = self.device.allocate_at(base, bytes);
        placed.map_err(|error| failure(Code::OUT_OF_MEMORY, error.to_string()))?;
        let block = Block {
            flags,
            host: Some(pages.memory()),
            pages: Some(pages),
            ..Block::new(kind, call, bytes, context)
        };
        self.memory.insert(base, block);
        Ok(base)
    }

    /// Makes memory of the program known to the device, at an address of the device's own.
    pub fn register(&mut self, host: HostMemory, context: Handle, flags: u32) -> Result<()> {
        if host.bytes() == 0 {
            return fail(Code::INVALID_VALUE, "0 bytes to register");
        }
        let last = host.address() + host.bytes() - 1;
        if self.memory.hosts.range(host.address()..=last).count() > 0
            || self.memory.find_host(host.address()).is_some()
        {
            return fail(
                Code::HOST_MEMORY_ALREADY_REGISTERED,
                format!("the memory at {:#x} is known already", host.address()),
            );
        }
        let base = self.device.allocate(host.bytes());
        let block = Block {
            flags,
            host: Some(host),
            ..Block::new(Kind::Registered, "cuMemHostRegister", host.bytes(), context)
        };
        self.memory.insert(base, block);
        Ok(())
    }

    /// Makes the variables of a module known.
    pub fn know_variable(&mut self, base: u64, bytes: usize, context: Handle) {
        let block = Block::new(Kind::Variable, "a module", bytes, context);
        self.memory.insert(base, block);
    }

    /// Frees a block that starts at an address and is of one of these kinds.
    pub fn free(&mut self, address: u64, kinds: &[Kind]) -> Result<()> {
        let fits = |block: &&mut Block| kinds.contains(&block.kind);
        match self.memory.blocks.get_mut(&address).filter(fits) {
            Some(block) if block.freed => fail(
                Code::INVALID_VALUE,
                format!("the memory at {address:#x} was freed already"),
            ),
            Some(block) => {
                block.freed = true;
                if block.kind.is_limited() {
                    self.memory.used -= block.bytes as u64;
                }
                let host = block.host.take();
                block.pages = None;
                if let Some(host) = host {
                    self.memory.hosts.remove(&host.address());
                }
                if block.kind != Kind::Variable {
                    // variables are freed with their module
                    let freed = self.device.free(address);
                    freed.map_err(|error| failure(Code::UNKNOWN, error.to_string()))?;
                }
                Ok(())
            }
            None => fail(
                Code::INVALID_VALUE,
                format!("no memory that this call frees starts at {address:#x}"),
            ),
        }
    }

    /// Fails unless bytes lie in one live block.
    pub fn check(&self, address: u64, bytes: usize) -> Result<()> {
        let Some((base, block)) = self.memory.find(address) else {
            return fail(
                Code::INVALID_VALUE,
                format!("{bytes} bytes at {address:#x}: no memory of the device is there"),
            );
        };
        let (call, size) = (block.call, block.bytes);
        if block.freed {
            let why = format!(
                "{bytes} bytes at {address:#x}: use after free of {size} bytes at {base:#x}, made by {call}"
            );
            return fail(Code::INVALID_VALUE, why);
        }
        let end = (address - base).checked_add(bytes as u64);
        if end.is_none_or(|end| end > size as u64) {
            let why = format!(
                "{bytes} bytes at {address:#x} do not lie within the {size} bytes at {base:#x}, made by {call}"
            );
            return fail(Code::INVALID_VALUE, why);
        }
        Ok(())
    }

    /// Where bytes at an address of the device are kept.
    pub fn device_place(&self, address: u64, bytes: usize) -> Result<Place> {
        if bytes == 0 {
            return Ok(Place::Held(vec![]));
        }
        self.check(address, bytes)?;
        let (base, block) = self.memory.find(address).expect("a block that was checked");
        Ok(match block.host {
            Some(host) => Place::Host(host.part((address - base) as usize, bytes)),
            None => Place::Device(address),
        })
    }

    /// Where bytes at an address of either side are kept.
    pub fn place(&self, given: HostMemory) -> Result<Place> {
        let address = given.address() as u64;
        let known = self.memory.find(address).is_some();
        if known || DEVICE_RANGE.contains(&address) {
            self.device_place(address, given.bytes())
        } else if address == 0 && given.bytes() > 0 {
            fail(Code::INVALID_VALUE, "a null pointer")
        } else {
            Ok(Place::Host(given))
        }
    }

    /// True for memory the device reads and writes by itself: a copy of it need not be complete when its call returns.
    pub fn is_pinned(&self, memory: HostMemory) -> bool {
        self.memory.find_host(memory.address()).is_some()
    }

    /// Brings the interpreter's blocks up to date with memory that the host sees, and returns what they hold.
    pub fn mirror_in(&mut self) -> Vec<(u64, Vec<u8>)> {
        let mut held = vec![];
        for base in self.memory.hosts.values() {
            let host = self.memory.blocks[base].host.expect("memory of the host");
            let bytes = host.read(0, host.bytes());
            self.device
                .write(*base, &bytes)
                .expect("a block for this memory");
            held.push((*base, bytes));
        }
        held
    }

    /// Writes back what a kernel changed; the rest may be changing under the program's hands.
    pub fn mirror_out(&mut self, held: Vec<(u64, Vec<u8>)>) {
        for (base, old) in held {
            let host = self.memory.blocks[&base].host.expect("memory of the host");
            let mut new = vec![0; old.len()];
            self.device
                .read(base, &mut new)
                .expect("a block for this memory");
            for (i, (before, after)) in old.iter().zip(&new).enumerate() {
                if before != after {
                    host.write(i, &[*after]);
                }
            }
        }
    }

    /// Frees what a context still owns and says so.
    pub fn free_all(&mut self, call: &str, context: Handle) {
        if let Some(message) = self.leaks(|block| block.context == context) {
            self.reports.note(call, &message);
        }
        let owned = |(_, block): &(u64, &Block)| {
            block.context == context && block.kind != Kind::Variable && block.kind != Kind::Graph
        };
        let bases: Vec<_> = self.memory.live().filter(owned).map(|(b, _)| b).collect();
        for base in bases {
            self.free(
                base,
                &[Kind::Device, Kind::Managed, Kind::Pinned, Kind::Registered],
            )
            .expect("a live block");
        }
    }

    /// A sentence about memory that nobody freed.
    pub fn leaks(&self, of: impl Fn(&Block) -> bool) -> Option<String> {
        let asked_for =
            |block: &Block| of(block) && !matches!(block.kind, Kind::Variable | Kind::Graph);
        let lost: Vec<_> = self
            .memory
            .live()
            .filter(|(_, block)| asked_for(block))
            .collect();
        let (base, first) = lost.iter().min_by_key(|(_, block)| block.number)?;
        let bytes: usize = lost.iter().map(|(_, block)| block.bytes).sum();
        Some(format!(
            "{} of memory ({bytes} bytes) never freed; the first has {} bytes at {base:#x}, made by {}",
            if lost.len() == 1 {
                "1 piece".to_string()
            } else {
                format!("{} pieces", lost.len())
            },
            first.bytes,
            first.call
        ))
    }
}
