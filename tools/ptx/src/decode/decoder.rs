//! A kernel and the functions it calls, in one program.

use std::collections::HashMap;

use super::functions::Called;
use super::line::Line;
use super::slots::{self, Mention, Slots};
use super::symbols::{Scopes, Symbol};
use super::{
    bits, bulk, control, convert, float, hopper, in_flight, integer, matrix, mbarrier, memory,
    moves, narrow, warp,
};
use crate::counters::Class;
use crate::error::{Error, Result};
use crate::exec::registers::Bank;
use crate::flow;
use crate::hopper::Touched;
use crate::program::{Action, Fill, Guard, Inst, NOWHERE, Param, Program, SHARED_START, Step};
use crate::text::ast::{Function, Instruction, Module, Operand, Statement, Variable};
use crate::types::Space;

pub(super) struct Decoder<'m> {
    pub module: &'m Module,
    pub program: Program,
    pub scopes: Scopes,
    pub constants: HashMap<(Bank, Fill), usize>,
    /// Functions called so far, with their parameters and results in local memory.
    pub functions: Vec<Called<'m>>,
    /// Calls: instruction, which of its functions, index of the function.
    pub calls: Vec<(usize, usize, usize)>,
    /// Registers that the instructions so far touch.
    touched: Vec<Touched>,
    /// Predicate that holds the carry flag.
    pub carry: Option<usize>,
    /// Registers declared so far.
    pub numbered: usize,
    mentions: Vec<Mention>,
    /// Instructions that are not known become problems, and decoding goes on.
    goes_on: bool,
    problems: Vec<Error>,
}

/// Decodes the kernel `name` of a module: once to see which registers live when, and again with their slots.
pub(crate) fn decode(module: &Module, name: &str) -> Result<Program> {
    let mut first = Decoder::new(module, name, Slots::default(), false);
    let ranges = first.decode(name)?;
    let slots = slots::assign(&first.program.code, &ranges, &first.mentions);
    let mut decoder = Decoder::new(module, name, slots, false);
    decoder.decode(name)?;
    let mut program = decoder.program;
    program.steps = program.code.iter_mut().map(Step::of).collect();
    Ok(program)
}

/// Everything that is wrong with a kernel, instruction by instruction.
pub(crate) fn problems(module: &Module, name: &str) -> Vec<Error> {
    let mut decoder = Decoder::new(module, name, Slots::default(), true);
    let last = decoder.decode(name).err();
    decoder.problems.into_iter().chain(last).collect()
}

impl<'m> Decoder<'m> {
    fn new(module: &'m Module, name: &str, slots: Slots, goes_on: bool) -> Self {
        Decoder {
            module,
            program: Program {
                name: name.into(),
                shared_end: SHARED_START,
                granule: 16,
                predicates: slots.predicates,
                words: slots.words,
                doubles: slots.doubles,
                ..Program::default()
            },
            scopes: Scopes::new(slots),
            constants: HashMap::new(),
            functions: vec![],
            calls: vec![],
            touched: vec![],
            carry: None,
            numbered: slots::NUMBERED,
            mentions: vec![],
            goes_on,
            problems: vec![],
        }
    }

    /// Decodes, and returns where the functions lie.
    fn decode(&mut self, name: &str) -> Result<Vec<(usize, usize)>> {
        let mut candidates = self.module.functions.iter();
        let Some(entry) = candidates.find(|f| f.entry && f.name == name && f.body.is_some()) else {
            return Err(Error::Missing {
                what: "kernel",
                name: name.into(),
            });
        };
        self.program.threads = entry.threads;
        self.program.cluster = entry.cluster;
        self.module_scope(entry);
        self.parameters(entry);
        let mut ranges = vec![self.body(entry)?];
        let mut done = 0;
        while done < self.functions.len() {
            let first_call = self.calls.len();
            let start = self.program.code.len() as u32;
            let function = self.functions[done].function;
            self.functions[done].start = start;
            ranges.push(self.called(done)?);
            let calls = self.calls[first_call..].iter().map(|call| call.2).collect();
            self.functions[done].calls = calls;
            self.no_recursion(done, function.line)?;
            done += 1;
        }
        if self.problems.is_empty() {
            self.link();
            for &(from, to) in &ranges {
                flow::meeting_points(&mut self.program.code[from..to], from);
                let code = &self.program.code[from..to];
                let misuses = in_flight::misuses(code, &self.touched[from..to], from);
                self.program.misuses.extend(misuses);
            }
        }
        Ok(ranges)
    }

    /// Variables of the module. Dynamic shared memory starts where static memory ends, so it is placed last.
    fn module_scope(&mut self, entry: &Function) {
        let module = self.module;
        for (index, variable) in module.variables.iter().enumerate() {
            match variable.space {
                Space::Shared if !variable.unsized_array => self.shared(variable),
                Space::Shared => {}
                _ => self
                    .scopes
                    .declare_symbol(&variable.name, Symbol::Variable(index)),
            }
        }
        // variables inside of bodies are placed before dynamic memory too
        let mut dynamic: Vec<&Variable> = vec![];
        let bodies = module
            .functions
            .iter()
            .filter(|f| !f.entry || f.name == entry.name);
        for statement in bodies.filter_map(|f| f.body.as_ref()).flatten() {
            if let Statement::Variable(variable) = statement
                && variable.space == Space::Shared
                && !variable.unsized_array
            {
                self.shared(variable);
            }
        }
        dynamic.extend(
            module
                .variables
                .iter()
                .filter(|v| v.space == Space::Shared && v.unsized_array),
        );
        let align = dynamic.iter().map(|v| v.align).max().unwrap_or(1).max(16);
        let end = self.program.shared_end.next_multiple_of(align);
        if !dynamic.is_empty() {
            self.program.shared_end = end;
        }
        for variable in dynamic {
            self.scopes
                .declare_symbol(&variable.name, Symbol::Shared(end));
        }
    }

    fn shared(&mut self, variable: &Variable) {
        let at = self.program.shared_end.next_multiple_of(variable.align);
        self.program.shared_end = at.saturating_add(variable.size);
        self.scopes
            .declare_symbol(&variable.name, Symbol::Shared(at));
    }

    pub fn local(&mut self, size: u64, align: u64) -> u64 {
        let at = self.program.local_bytes.next_multiple_of(align.max(1));
        self.program.local_bytes = at.saturating_add(size);
        at
    }

    fn parameters(&mut self, entry: &Function) {
        let mut offset = 0u64;
        for variable in &entry.params {
            offset = offset.next_multiple_of(variable.align);
            self.scopes
                .declare_symbol(&variable.name, Symbol::Param(offset));
            self.program.params.push(Param {
                name: variable.name.clone(),
                offset: offset as usize,
                bytes: variable.size as usize,
            });
            offset = offset.saturating_add(variable.size);
        }
        self.program.param_bytes = offset as usize;
    }

    pub fn body(&mut self, function: &'m Function) -> Result<(usize, usize)> {
        let from = self.program.code.len();
        self.scopes.open();
        for statement in function.body.as_ref().expect("a function with a body") {
            self.statement(statement)?;
        }
        self.close_scope();
        self.scopes.check_labels()?;
        // a body may end without ret
        self.touched.push(Touched::default());
        self.program.code.push(Inst {
            action: Action::Return,
            guard: None,
            class: Class::Control,
            line: function.line,
            source: None,
            meet: NOWHERE,
        });
        Ok((from, self.program.code.len()))
    }

    fn close_scope(&mut self) {
        for (at, position, target) in self.scopes.close() {
            match &mut self.program.code[at].action {
                Action::Branch(to) => *to = target,
                Action::BranchIndexed(_, targets) => targets[position] = target,
                _ => unreachable!("only branches have labels"),
            }
        }
    }

    fn statement(&mut self, statement: &'m Statement) -> Result<()> {
        match statement {
            Statement::Open => self.scopes.open(),
            Statement::Close => self.close_scope(),
            Statement::Label(name) => {
                let at = self.program.code.len() as u32;
                self.scopes.declare_label(name, at);
            }
            Statement::Targets(name, labels) => self.scopes.declare_targets(name, labels),
            Statement::Registers(ty, names, line) => self.registers(*ty, names, *line)?,
            Statement::Variable(variable) => match variable.space {
                Space::Shared if variable.unsized_array => {
                    let message = "dynamic shared memory belongs before the kernel";
                    return Err(Error::at(variable.line, message));
                }
                Space::Shared => {}
                Space::Local => {
                    let at = self.local(variable.size, variable.align);
                    self.scopes
                        .declare_symbol(&variable.name, Symbol::Local(at));
                }
                Space::Param => {
                    let at = self.local(variable.size, variable.align);
                    self.scopes
                        .declare_symbol(&variable.name, Symbol::CallParam(at, variable.size));
                }
                _ => {
                    let message = "variables of this space are not known inside of a function";
                    return Err(Error::at(variable.line, message));
                }
            },
            Statement::Instruction(instruction) => match self.instruction(instruction) {
                Err(error) if self.goes_on => self.problems.push(error),
                result => result?,
            },
        }
        Ok(())
    }

    fn instruction(&mut self, instruction: &'m Instruction) -> Result<()> {
        let at = self.program.code.len();
        let register = |name: &str| self.scopes.register(name);
        slots::mentions(instruction, at, register, &mut self.mentions);
        let guard = match &instruction.guard {
            None => None,
            Some((name, negated)) => match self.scopes.register(name) {
                Some(r) if r.bank == Bank::Predicate => Some(Guard {
                    predicate: r.slot,
                    negated: *negated,
                }),
                _ => {
                    let message = format!("{name} is not a predicate");
                    return Err(Error::at(instruction.line, message));
                }
            },
        };
        let touched = self.touched_by(instruction);
        let mut line = Line::new(self, instruction);
        let groups = [
            hopper::decode,
            bulk::decode,
            mbarrier::decode,
            integer::decode,
            bits::decode,
            float::decode,
            narrow::decode,
            convert::decode,
            moves::decode,
            memory::decode,
            control::decode,
            warp::decode,
            matrix::decode,
        ];
        for group in groups {
            if let Some((action, class)) = group(&mut line)? {
                self.touched.push(touched);
                self.program.code.push(Inst {
                    action,
                    guard,
                    class,
                    line: instruction.line,
                    source: instruction.source,
                    meet: NOWHERE,
                });
                return Ok(());
            }
        }
        line.error("this instruction is not known")
    }

    /// The words an instruction names. What an opcode writes comes first.
    fn touched_by(&self, instruction: &Instruction) -> Touched {
        let mut touched = Touched::default();
        for (i, operand) in instruction.operands.iter().enumerate() {
            let written = i == 0 && !instruction.opcode.starts_with("st");
            self.words_of(operand, written, &mut touched);
        }
        touched
    }

    fn words_of(&self, operand: &Operand, written: bool, touched: &mut Touched) {
        match operand {
            Operand::Name(name, _) => match self.scopes.register(name) {
                Some(r) if r.bank == Bank::Word && written => touched.writes.push(r.slot),
                Some(r) if r.bank == Bank::Word => touched.reads.push(r.slot),
                _ => {}
            },
            Operand::Pair(a, b) => {
                self.words_of(a, written, touched);
                self.words_of(b, written, touched);
            }
            Operand::List(items) => {
                for item in items {
                    self.words_of(item, written, touched);
                }
            }
            Operand::Address { base, .. } => self.words_of(base, false, touched),
            Operand::Not(_) | Operand::Immediate(_) => {}
        }
    }

    fn link(&mut self) {
        for (at, which, function) in &self.calls {
            let start = self.functions[*function].start;
            if let Action::Call(call) = &mut self.program.code[*at].action {
                call.callees[*which].target = start;
            }
        }
    }
}
