//! The pickle machine: opcodes in, inert values out. The order of the opcodes is that of Python's `pickletools`.

use std::collections::HashMap;

use super::{
    error::PickleError,
    input::Input,
    stack::Stack,
    value::{Global, Heap, Id, Value},
};

/// Most entries of the memo.
const MAX_MEMO: usize = 4 << 20;
/// Bytes of the longest integer that is kept: the magic number of PyTorch's legacy format has 10.
const MAX_INTEGER: u64 = 16;
const HIGHEST_PROTOCOL: u8 = 5;

/// Reads one pickle, up to and with its end.
///
/// # Errors
/// Opcodes that make no sense, calls of unknown names, an early end, more than the bounds allow.
pub(super) fn run(input: &mut Input<'_>) -> Result<(Heap, Id), PickleError> {
    let mut machine = Machine::default();
    loop {
        match machine.step(input) {
            Ok(None) => {}
            Ok(Some(root)) => return Ok((machine.heap, root)),
            Err(error) => return Err(error.at(input.position())),
        }
    }
}

#[derive(Default)]
pub(super) struct Machine {
    pub(super) heap: Heap,
    stack: Stack,
    memo: HashMap<u32, Id>,
}

impl Machine {
    /// Obeys one opcode; gives the root at the last.
    fn step(&mut self, input: &mut Input<'_>) -> Result<Option<Id>, PickleError> {
        match input.byte()? {
            b'.' => return self.stack.pop().map(Some),
            0x80 => self.protocol(input.byte()?)?,
            0x95 => input.skip(8)?,

            b'(' => self.stack.mark()?,
            b'0' => self.stack.discard()?,
            b'1' => drop(self.stack.pop_to_mark()?),
            b'2' => {
                let top = self.stack.top()?;
                self.stack.push(top)?;
            }

            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'I' => self.text_integer(&input.line()?)?,
            b'L' => self.text_integer(input.line()?.trim_end_matches('L'))?,
            b'J' => self.integer(i32::from_le_bytes(input.array()?).into())?,
            b'K' => self.integer(input.byte()?.into())?,
            b'M' => self.integer(u16::from_le_bytes(input.array()?).into())?,
            0x8a => {
                let length = input.byte()?.into();
                self.long(input, length)?;
            }
            0x8b => {
                let length = u32::from_le_bytes(input.array()?).into();
                self.long(input, length)?;
            }
            b'F' => {
                input.line()?;
                self.push(Value::Other("a float"))?;
            }
            b'G' => {
                input.skip(8)?;
                self.push(Value::Other("a float"))?;
            }

            // Python 2's str is text or bytes: what is no text is of no use here.
            b'S' => {
                let line = input.line()?;
                self.text(line.trim_matches(['\'', '"']).as_bytes().to_vec())?;
            }
            b'V' => self.text(input.line()?.into_bytes())?,
            b'U' | 0x8c => {
                let length = input.byte()?.into();
                self.text(input.bytes(length)?)?;
            }
            b'T' | b'X' => {
                let length = u32::from_le_bytes(input.array()?).into();
                self.text(input.bytes(length)?)?;
            }
            0x8d => {
                let length = u64::from_le_bytes(input.array()?);
                self.text(input.bytes(length)?)?;
            }
            b'C' => {
                let length = input.byte()?.into();
                self.bytes(input, length)?;
            }
            b'B' => {
                let length = u32::from_le_bytes(input.array()?).into();
                self.bytes(input, length)?;
            }
            0x8e | 0x96 => {
                let length = u64::from_le_bytes(input.array()?);
                self.bytes(input, length)?;
            }

            b')' => self.push(Value::Tuple(Vec::new()))?,
            b't' => {
                let items = self.stack.pop_to_mark()?;
                self.tuple(items)?;
            }
            count @ 0x85..=0x87 => {
                let items = self.stack.pop_many(usize::from(count - 0x84))?;
                self.tuple(items)?;
            }
            b']' => self.push(Value::List(Vec::new()))?,
            b'l' => {
                let items = self.stack.pop_to_mark()?;
                self.heap.reserve(items.len())?;
                self.push(Value::List(items))?;
            }
            b'a' => {
                let items = self.stack.pop_many(1)?;
                self.append(&items)?;
            }
            b'e' | 0x90 => {
                let items = self.stack.pop_to_mark()?;
                self.append(&items)?;
            }
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b'd' => {
                let items = self.stack.pop_to_mark()?;
                self.push(Value::Dict(Vec::new()))?;
                self.set_items(&items)?;
            }
            b's' => {
                let items = self.stack.pop_many(2)?;
                self.set_items(&items)?;
            }
            b'u' => {
                let items = self.stack.pop_to_mark()?;
                self.set_items(&items)?;
            }
            0x8f => self.push(Value::Other("a set"))?,
            0x91 => {
                self.stack.pop_to_mark()?;
                self.push(Value::Other("a set"))?;
            }

            b'p' => {
                let index = parse_index(&input.line()?)?;
                self.memoize(index)?;
            }
            b'q' => self.memoize(input.byte()?.into())?,
            b'r' => self.memoize(u32::from_le_bytes(input.array()?))?,
            0x94 => self.memoize(u32::try_from(self.memo.len()).unwrap_or(u32::MAX))?,
            b'g' => {
                let index = parse_index(&input.line()?)?;
                self.recall(index)?;
            }
            b'h' => self.recall(input.byte()?.into())?,
            b'j' => self.recall(u32::from_le_bytes(input.array()?))?,

            b'c' => {
                let (module, name) = (input.line()?, input.line()?);
                self.push(Value::Class(Box::new(Global::new(&module, &name)?)))?;
            }
            0x93 => self.stack_global()?,
            b'R' => {
                let (callable, args) = self.stack.pop_two()?;
                let made = self.call(callable, args)?;
                self.stack.push(made)?;
            }
            0x81 => {
                let (class, args) = self.stack.pop_two()?;
                let made = self.make(class, Some(args))?;
                self.stack.push(made)?;
            }
            0x92 => {
                self.stack.pop()?;
                let (class, args) = self.stack.pop_two()?;
                let made = self.make(class, Some(args))?;
                self.stack.push(made)?;
            }
            b'i' => {
                let (module, name) = (input.line()?, input.line()?);
                self.stack.pop_to_mark()?;
                let class = self.heap.push(Value::Class(Box::new(Global::new(&module, &name)?)))?;
                let made = self.make(class, None)?;
                self.stack.push(made)?;
            }
            b'o' => {
                let items = self.stack.pop_to_mark()?;
                let class = items.first().ok_or_else(|| PickleError::damaged("an object has no class"))?;
                let made = self.make(*class, None)?;
                self.stack.push(made)?;
            }
            b'b' => {
                let state = self.stack.pop()?;
                let object = self.stack.top()?;
                self.set_state(object, state)?;
            }
            b'Q' => {
                let id = self.stack.pop()?;
                let made = self.persistent(id)?;
                self.stack.push(made)?;
            }

            opcode @ (b'P' | 0x82..=0x84 | 0x97 | 0x98) => {
                let problem = format!("opcode {opcode:#04x}, which PyTorch does not write");
                return Err(PickleError::Damaged(problem));
            }
            opcode => return Err(PickleError::Damaged(format!("unknown opcode {opcode:#04x}"))),
        }
        Ok(None)
    }

    fn protocol(&self, protocol: u8) -> Result<(), PickleError> {
        if protocol <= HIGHEST_PROTOCOL {
            return Ok(());
        }
        Err(PickleError::Damaged(format!("pickle protocol {protocol}; the highest known is {HIGHEST_PROTOCOL}")))
    }

    fn push(&mut self, value: Value) -> Result<(), PickleError> {
        let id = self.heap.push(value)?;
        self.stack.push(id)
    }

    fn memoize(&mut self, index: u32) -> Result<(), PickleError> {
        let top = self.stack.top()?;
        if self.memo.len() >= MAX_MEMO {
            return Err(PickleError::Limit { what: "entries in its memo", limit: MAX_MEMO as u64 });
        }
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), PickleError> {
        let id = self.memo.get(&index).copied();
        self.stack.push(id.ok_or_else(|| PickleError::Damaged(format!("its memo has no entry {index}")))?)
    }

    // === values ===

    fn integer(&mut self, value: i128) -> Result<(), PickleError> {
        self.push(Value::Int(value))
    }

    fn text_integer(&mut self, line: &str) -> Result<(), PickleError> {
        match line {
            "00" => self.push(Value::Bool(false)),
            "01" => self.push(Value::Bool(true)),
            _ => match line.trim().parse() {
                Ok(value) => self.integer(value),
                Err(_) => Err(PickleError::damaged("a number is not one")),
            },
        }
    }

    fn long(&mut self, input: &mut Input<'_>, length: u64) -> Result<(), PickleError> {
        if length > MAX_INTEGER {
            input.skip(length)?;
            return self.push(Value::Other("a long int"));
        }
        let bytes = input.bytes(length)?;
        // The highest bit is the sign, which fills what is not written.
        let negative = bytes.last().is_some_and(|last| *last >= 0x80);
        let mut whole = [if negative { 0xff } else { 0 }; MAX_INTEGER as usize];
        for (place, byte) in whole.iter_mut().zip(bytes) {
            *place = byte;
        }
        self.integer(i128::from_le_bytes(whole))
    }

    fn text(&mut self, bytes: Vec<u8>) -> Result<(), PickleError> {
        match String::from_utf8(bytes) {
            Ok(text) => self.push(Value::Str(text.into_boxed_str())),
            Err(_) => self.push(Value::Other("bytes")),
        }
    }

    fn bytes(&mut self, input: &mut Input<'_>, length: u64) -> Result<(), PickleError> {
        input.skip(length)?;
        self.push(Value::Other("bytes"))
    }

    fn tuple(&mut self, items: Vec<Id>) -> Result<(), PickleError> {
        self.heap.reserve(items.len())?;
        self.push(Value::Tuple(items))
    }

    /// Appends to the list at the top. What lists and sets of other classes hold is left out.
    fn append(&mut self, items: &[Id]) -> Result<(), PickleError> {
        self.heap.reserve(items.len())?;
        let top = self.stack.top()?;
        match self.heap.get_mut(top) {
            Some(Value::List(list)) => list.extend_from_slice(items),
            Some(Value::Object(_) | Value::Other("a set")) => {}
            other => return Err(misplaced("appends to", other)),
        }
        Ok(())
    }

    /// Sets keys and values, in turn, in the dictionary at the top. What other classes hold is left out.
    fn set_items(&mut self, items: &[Id]) -> Result<(), PickleError> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(PickleError::damaged("a key has no value"));
        }
        self.heap.reserve(items.len())?;
        let top = self.stack.top()?;
        match self.heap.get_mut(top) {
            Some(Value::Dict(entries)) => entries.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            Some(Value::Object(_)) => {}
            other => return Err(misplaced("sets items of", other)),
        }
        Ok(())
    }

    fn stack_global(&mut self) -> Result<(), PickleError> {
        let (module, name) = self.stack.pop_two()?;
        let (Some(module), Some(name)) = (self.heap.str(module), self.heap.str(name)) else {
            return Err(PickleError::damaged("the name of a class is no text"));
        };
        let global = Global::new(module, name)?;
        self.push(Value::Class(Box::new(global)))
    }
}

fn parse_index(line: &str) -> Result<u32, PickleError> {
    line.trim().parse().map_err(|_| PickleError::damaged("the number of a memo entry is not one"))
}

fn misplaced(what: &str, value: Option<&mut Value>) -> PickleError {
    PickleError::Damaged(format!("{what} {}", value.map_or("nothing", |value| value.kind())))
}
