//! Finds the tensors among the values: a state dict, one inside a trainer's dictionary, or the modules of a network.

use std::collections::BTreeMap;

use super::{
    error::PickleError,
    value::{Heap, Id, Value},
};

/// Where trainers put the tensors: Lightning and taming under `state_dict`, RayGen's classifier under `model_state_dict`, its
/// debug dump under `model`.
const WRAPPERS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// Longest name of a tensor in bytes, deepest module, most tensors, and most entries that are looked at: modules may
/// share what they hold, so that a small file describes an endless network.
const MAX_NAME: usize = 1024;
const MAX_DEPTH: usize = 64;
const MAX_TENSORS: usize = 100_000;
const MAX_ENTRIES: usize = 16 << 20;

/// Every tensor of the first wrapper that holds any, or of the root itself.
///
/// # Errors
/// Names and modules that no network has: too long, too deep, too many.
pub(super) fn tensors(heap: &Heap, root: Id) -> Result<BTreeMap<String, Id>, PickleError> {
    for wrapper in WRAPPERS {
        if let Some(inner) = heap.entry(root, wrapper) {
            let tensors = Walk::of(heap, inner)?;
            if !tensors.is_empty() {
                return Ok(tensors);
            }
        }
    }
    let tensors = Walk::of(heap, root)?;
    if let (true, Value::Object(object)) = (tensors.is_empty(), heap.get(root)) {
        let class = heap.class(object.class).map(ToString::to_string).unwrap_or_default();
        let problem =
            format!("holds an object of class {class} without parameters; expected a state dict or a network");
        return Err(PickleError::Unsupported(problem));
    }
    Ok(tensors)
}

struct Walk<'a> {
    heap: &'a Heap,
    tensors: BTreeMap<String, Id>,
    /// Entries of dictionaries that were looked at: a shared one counts as often as it is reached.
    entries: usize,
}

impl<'a> Walk<'a> {
    fn of(heap: &'a Heap, root: Id) -> Result<BTreeMap<String, Id>, PickleError> {
        let mut walk = Self { heap, tensors: BTreeMap::new(), entries: 0 };
        match heap.get(root) {
            Value::Dict(_) => walk.dict(root, "")?,
            Value::Object(_) => walk.module(root, "", 0)?,
            _ => {}
        }
        Ok(walk.tensors)
    }

    /// The tensors of a dictionary, and nothing deeper.
    fn dict(&mut self, dict: Id, prefix: &str) -> Result<(), PickleError> {
        for (key, value) in self.entries(dict)? {
            if let (Value::Str(key), Value::Tensor(_)) = (self.heap.get(*key), self.heap.get(*value)) {
                if self.tensors.len() >= MAX_TENSORS {
                    return Err(PickleError::Limit { what: "tensors", limit: MAX_TENSORS as u64 });
                }
                self.tensors.insert(join(prefix, key)?, *value);
            }
        }
        Ok(())
    }

    /// What PyTorch's `Module.state_dict` gives: parameters, buffers, then the same of all modules inside.
    fn module(&mut self, module: Id, prefix: &str, depth: usize) -> Result<(), PickleError> {
        if depth > MAX_DEPTH {
            return Err(PickleError::Limit { what: "nested modules", limit: MAX_DEPTH as u64 });
        }
        let Some(state) = self.state(module) else { return Ok(()) };
        self.entries(state)?;
        for group in ["_parameters", "_buffers"] {
            if let Some(dict) = self.heap.entry(state, group) {
                self.dict(dict, prefix)?;
            }
        }
        let Some(modules) = self.heap.entry(state, "_modules") else { return Ok(()) };
        for (key, inner) in self.entries(modules)? {
            if let (Value::Str(key), Value::Object(_)) = (self.heap.get(*key), self.heap.get(*inner)) {
                self.module(*inner, &join(prefix, key)?, depth + 1)?;
            }
        }
        Ok(())
    }

    /// The attributes of an object; with slots, its state is a pair of dictionaries.
    fn state(&self, object: Id) -> Option<Id> {
        let Value::Object(object) = self.heap.get(object) else { return None };
        let state = object.state?;
        match self.heap.items(state) {
            Some([attributes, _slots]) => Some(*attributes),
            _ => Some(state),
        }
    }

    fn entries(&mut self, dict: Id) -> Result<&'a [(Id, Id)], PickleError> {
        let Value::Dict(entries) = self.heap.get(dict) else { return Ok(&[]) };
        self.entries = self.entries.saturating_add(entries.len()).saturating_add(1);
        if self.entries > MAX_ENTRIES {
            return Err(PickleError::Limit { what: "entries in its modules", limit: MAX_ENTRIES as u64 });
        }
        Ok(entries)
    }
}

fn join(prefix: &str, name: &str) -> Result<String, PickleError> {
    if prefix.len() + name.len() > MAX_NAME {
        return Err(PickleError::Limit { what: "bytes in the name of a tensor", limit: MAX_NAME as u64 });
    }
    Ok(if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") })
}
