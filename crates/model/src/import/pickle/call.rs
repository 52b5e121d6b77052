//! What becomes of calls, instances, states and persistent ids: data of the known names, a refusal of all others.

use super::{
    error::PickleError,
    machine::Machine,
    names::{Known, Rebuild, is_tensor_type, known},
    value::{Id, Object, PickledTensor, Storage, Value},
};
use crate::import::stored::Element;

/// Arguments that are looked at; the longest list is that of `_rebuild_tensor_v3`.
const MAX_ARGUMENTS: usize = 8;
/// Most dimensions of a tensor.
const MAX_RANK: usize = 32;

impl Machine {
    /// `callable(*args)`.
    pub(super) fn call(&mut self, callable: Id, args: Id) -> Result<Id, PickleError> {
        let known = self.known(callable)?;
        let arguments = self.arguments(args)?;
        let first = arguments.first().copied();
        match known {
            Known::Dict => self.dict(first),
            Known::Size => first.ok_or_else(|| PickleError::damaged("torch.Size of nothing")),
            Known::Tensor(rebuild) => self.tensor(rebuild, &arguments),
            Known::Parameter => self.parameter(first),
            Known::TypedTensor => self.typed_tensor(&arguments),
            Known::Instance => {
                let class = first.ok_or_else(|| PickleError::damaged("an instance of nothing"))?;
                self.make(class, None)
            }
            Known::Inert => self.object(callable),
            Known::Stateful => Err(self.refuse(callable)),
        }
    }

    /// `class.__new__(class, *args)`.
    pub(super) fn make(&mut self, class: Id, args: Option<Id>) -> Result<Id, PickleError> {
        match self.known(class)? {
            Known::Dict => self.dict(None),
            Known::Size => {
                let args = args.ok_or_else(|| PickleError::damaged("torch.Size of nothing"))?;
                self.call(class, args)
            }
            Known::Inert | Known::Stateful => self.object(class),
            Known::Tensor(_) | Known::Parameter | Known::TypedTensor | Known::Instance => Err(self.refuse(class)),
        }
    }

    /// `object.__setstate__(state)`.
    pub(super) fn set_state(&mut self, object: Id, state: Id) -> Result<(), PickleError> {
        match self.heap.get_mut(object) {
            Some(Value::Object(object)) => object.state = Some(state),
            // State dicts carry `_metadata`, which says nothing about tensors.
            Some(Value::Dict(_)) => {}
            Some(Value::Class(_)) => return Err(self.refuse(object)),
            other => {
                let kind = other.map_or("nothing", |value| value.kind());
                return Err(PickleError::Damaged(format!("sets the state of {kind}")));
            }
        }
        Ok(())
    }

    /// What PyTorch keeps outside of its pickle: storages, and in the legacy format the sources of modules.
    pub(super) fn persistent(&mut self, id: Id) -> Result<Id, PickleError> {
        let arguments = self.arguments(id)?;
        let kind = arguments.first().and_then(|kind| self.heap.str(*kind));
        match (kind, arguments.as_slice()) {
            (Some("storage"), [_, class, key, _location, count, rest @ ..]) => {
                self.storage(*class, *key, *count, rest.first().copied())
            }
            (Some("module"), [_, class, ..]) => Ok(*class),
            _ => Err(PickleError::damaged("a persistent id is neither a storage's nor a module's")),
        }
    }

    fn storage(&mut self, class: Id, key: Id, count: Id, view: Option<Id>) -> Result<Id, PickleError> {
        let heap = &self.heap;
        let global = heap.class(class).ok_or_else(|| PickleError::damaged("a storage has no class"))?;
        let element = match global.module.as_str() {
            "torch" | "torch.storage" | "torch.cuda" => Element::of_storage(&global.name),
            _ => None,
        };
        let Some(element) = element else {
            return Err(PickleError::Unsupported(format!("holds a storage of class {global}, which is not read")));
        };
        let count = heap.unsigned(count);
        let mut count = count.ok_or_else(|| PickleError::damaged("a storage has no number of elements"))?;
        let mut first = 0;
        let view = view.and_then(|view| heap.items(view));
        if let Some(view) = view {
            let [_key, offset, length] = view else {
                return Err(PickleError::damaged("a storage's view is not (key, offset, size)"));
            };
            let (Some(offset), Some(length)) = (heap.unsigned(*offset), heap.unsigned(*length)) else {
                return Err(PickleError::damaged("a storage's view has no place"));
            };
            (first, count) = (offset, length);
        }
        let is_view = view.is_some();
        self.heap.push(Value::Storage(Box::new(Storage { key, element, count, first, is_view })))
    }

    fn tensor(&mut self, rebuild: Rebuild, arguments: &[Id]) -> Result<Id, PickleError> {
        let [storage, offset, size, stride, rest @ ..] = arguments else {
            return Err(PickleError::damaged("a tensor has too few arguments"));
        };
        let Value::Storage(data) = self.heap.get(*storage) else {
            return Err(PickleError::damaged("a tensor has no storage"));
        };
        let element = match (rebuild, rest) {
            (Rebuild::Typed, _) => Some(data.element),
            (Rebuild::Untyped, [_, _, dtype, ..]) => self.heap.class(*dtype).and_then(|dtype| {
                let of_torch = dtype.module == "torch";
                of_torch.then(|| Element::of_dtype(&dtype.name)).flatten()
            }),
            (Rebuild::Untyped, _) => None,
        };
        let element = element.ok_or_else(|| PickleError::damaged("a tensor's type is not known"))?;
        let offset =
            self.heap.unsigned(*offset).ok_or_else(|| PickleError::damaged("a tensor's offset is negative"))?;
        let shape = self.dimensions(*size)?;
        let strides = self.dimensions(*stride)?;
        if shape.len() != strides.len() {
            return Err(PickleError::damaged("a tensor has other numbers of sizes and strides"));
        }
        self.heap.push(Value::Tensor(Box::new(PickledTensor { element, storage: *storage, offset, shape, strides })))
    }

    fn dimensions(&self, id: Id) -> Result<Vec<usize>, PickleError> {
        let items = self.heap.items(id).filter(|items| items.len() <= MAX_RANK);
        let items = items.ok_or_else(|| PickleError::damaged("a tensor's size is not a short tuple"))?;
        items
            .iter()
            .map(|item| self.heap.unsigned(*item).and_then(|size| usize::try_from(size).ok()))
            .collect::<Option<_>>()
            .ok_or_else(|| PickleError::damaged("a tensor's size is not of whole numbers"))
    }

    fn parameter(&self, data: Option<Id>) -> Result<Id, PickleError> {
        let data = data.ok_or_else(|| PickleError::damaged("a parameter has no tensor"))?;
        match self.heap.get(data) {
            Value::Tensor(_) => Ok(data),
            other => Err(PickleError::Damaged(format!("a parameter holds {}", other.kind()))),
        }
    }

    fn typed_tensor(&mut self, arguments: &[Id]) -> Result<Id, PickleError> {
        let [function, class, args, ..] = arguments else {
            return Err(PickleError::damaged("a tensor has too few arguments"));
        };
        if !self.heap.class(*class).is_some_and(is_tensor_type) {
            return Err(self.refuse(*class));
        }
        match self.known(*function)? {
            Known::Tensor(_) | Known::Parameter => self.call(*function, *args),
            _ => Err(self.refuse(*function)),
        }
    }

    /// A dictionary, with what Python 2 gives an `OrderedDict` as its argument: pairs of key and value.
    fn dict(&mut self, content: Option<Id>) -> Result<Id, PickleError> {
        let pairs: Vec<(Id, Id)> = match content.map(|content| self.heap.get(content)) {
            Some(Value::Dict(entries)) => entries.clone(),
            Some(Value::List(items) | Value::Tuple(items)) => items
                .iter()
                .map(|pair| match self.heap.items(*pair) {
                    Some([key, value]) => Ok((*key, *value)),
                    _ => Err(PickleError::damaged("a dictionary is made of what is no pair")),
                })
                .collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        self.heap.reserve(pairs.len().saturating_mul(2))?;
        self.heap.push(Value::Dict(pairs))
    }

    fn object(&mut self, class: Id) -> Result<Id, PickleError> {
        self.heap.push(Value::Object(Box::new(Object { class, state: None })))
    }

    fn known(&self, callable: Id) -> Result<Known, PickleError> {
        self.heap.class(callable).and_then(known).ok_or_else(|| self.refuse(callable))
    }

    fn refuse(&self, callable: Id) -> PickleError {
        match self.heap.get(callable) {
            Value::Class(global) => PickleError::Calls(global.as_ref().clone()),
            other => PickleError::Damaged(format!("it calls {}", other.kind())),
        }
    }

    /// The first arguments: a tuple may be long, and no call needs all of it.
    fn arguments(&self, args: Id) -> Result<Vec<Id>, PickleError> {
        let items = self.heap.items(args).ok_or_else(|| PickleError::damaged("arguments are not a tuple"))?;
        Ok(items.iter().take(MAX_ARGUMENTS).copied().collect())
    }
}
