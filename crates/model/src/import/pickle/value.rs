//! What a pickle becomes: values that hold data and can do nothing.

use std::{fmt, mem::size_of};

use super::error::PickleError;
use crate::import::stored::Element;

/// Most values in a pickle; a Lightning checkpoint of the published model has about 20,000.
const MAX_VALUES: usize = 4 << 20;
/// Most places in all lists, tuples and dictionaries together.
const MAX_PLACES: usize = 16 << 20;
/// Most bytes of texts, names, dimensions and objects together. A few bytes of opcodes make a value with two names of a
/// kilobyte each, or a tensor of many dimensions: a bound on the number of values alone would allow gigabytes. The same
/// checkpoint has a few megabytes.
const MAX_BYTES: usize = 128 << 20;
/// Longest module or class name.
const MAX_NAME: usize = 1024;

/// A value's place in its [`Heap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(u32);

#[derive(Debug)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i128),
    Str(Box<str>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// Entries in the order in which they were set; the last of equal keys counts.
    Dict(Vec<(Id, Id)>),
    Class(Box<Global>),
    Object(Box<Object>),
    Storage(Box<Storage>),
    Tensor(Box<PickledTensor>),
    /// Something that no tensor depends on (a float, bytes, a set): its kind is kept, its content is not.
    Other(&'static str),
}

/// The name of a Python class or function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Global {
    pub(super) module: String,
    pub(super) name: String,
}

/// An instance of a class that holds data only.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) class: Id,
    /// What `__setstate__` would have been given.
    pub(super) state: Option<Id>,
}

/// A run of elements that tensors look into.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) key: Id,
    pub(super) element: Element,
    pub(super) count: u64,
    /// First element within the stored run; other than 0 only in files of PyTorch's first years.
    pub(super) first: u64,
    /// Whether the storage is a part of the run `key`.
    pub(super) is_view: bool,
}

/// A tensor before it is known where its storage lies.
#[derive(Debug)]
pub(super) struct PickledTensor {
    pub(super) element: Element,
    pub(super) storage: Id,
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// All values of a pickle. Values name each other by [`Id`]: cycles and deep nesting cost nothing to drop.
#[derive(Debug, Default)]
pub(super) struct Heap {
    values: Vec<Value>,
    places: usize,
    /// What all values hold, by [`Value::bytes`].
    bytes: usize,
}

impl Heap {
    pub(super) fn push(&mut self, value: Value) -> Result<Id, PickleError> {
        if self.values.len() >= MAX_VALUES {
            return Err(PickleError::Limit { what: "values in its pickle", limit: MAX_VALUES as u64 });
        }
        self.bytes = self.bytes.saturating_add(value.bytes());
        if self.bytes > MAX_BYTES {
            return Err(PickleError::Limit { what: "bytes in its values", limit: MAX_BYTES as u64 });
        }
        let id = u32::try_from(self.values.len()).map_err(|_| PickleError::damaged("too many values"))?;
        self.values.push(value);
        Ok(Id(id))
    }

    /// Counts places before a container grows by them.
    pub(super) fn reserve(&mut self, places: usize) -> Result<(), PickleError> {
        self.places = self.places.saturating_add(places);
        if self.places > MAX_PLACES {
            return Err(PickleError::Limit { what: "places in its containers", limit: MAX_PLACES as u64 });
        }
        Ok(())
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        self.values.get(id.0 as usize).unwrap_or(&Value::None)
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Value> {
        self.values.get_mut(id.0 as usize)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Value> {
        self.values.iter()
    }

    pub(super) fn str(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// A number that is not negative.
    pub(super) fn unsigned(&self, id: Id) -> Option<u64> {
        match self.get(id) {
            Value::Int(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The items of a tuple or list.
    pub(super) fn items(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) | Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// What a dictionary holds under a text.
    pub(super) fn entry(&self, dict: Id, key: &str) -> Option<Id> {
        let Value::Dict(entries) = self.get(dict) else { return None };
        entries.iter().rev().find(|(name, _)| self.str(*name) == Some(key)).map(|(_, value)| *value)
    }

    pub(super) fn class(&self, id: Id) -> Option<&Global> {
        match self.get(id) {
            Value::Class(global) => Some(global),
            _ => None,
        }
    }
}

impl Value {
    /// Bytes that it holds outside of the heap's list; the places of containers are counted by [`Heap::reserve`].
    fn bytes(&self) -> usize {
        match self {
            Self::Str(text) => text.len(),
            Self::Class(global) => size_of::<Global>() + global.module.len() + global.name.len(),
            Self::Object(_) => size_of::<Object>(),
            Self::Storage(_) => size_of::<Storage>(),
            Self::Tensor(tensor) => {
                size_of::<PickledTensor>() + size_of::<usize>() * (tensor.shape.len() + tensor.strides.len())
            }
            Self::None | Self::Bool(_) | Self::Int(_) | Self::Other(_) => 0,
            Self::Tuple(_) | Self::List(_) | Self::Dict(_) => 0,
        }
    }

    /// The kind, as a message names it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::Str(_) => "a text",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dict",
            Self::Class(_) => "a class",
            Self::Object(_) => "an object",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
            Self::Other(kind) => kind,
        }
    }
}

impl Global {
    /// Names of Python 2, which PyTorch's pickles use for built-in things, become those of Python 3.
    pub(super) fn new(module: &str, name: &str) -> Result<Self, PickleError> {
        if module.len() > MAX_NAME || name.len() > MAX_NAME {
            return Err(PickleError::Limit { what: "bytes in the name of a class", limit: MAX_NAME as u64 });
        }
        let module = match module {
            "__builtin__" => "builtins",
            "copy_reg" => "copyreg",
            other => other,
        };
        Ok(Self { module: module.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for Global {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { module, name } = self;
        // The name comes from the file: control characters stay out of terminals and logs.
        write!(f, "{}.{}", module.escape_debug(), name.escape_debug())?;
        match module.as_str() {
            "posix" | "nt" => write!(f, " (os.{})", name.escape_debug()),
            _ => Ok(()),
        }
    }
}
