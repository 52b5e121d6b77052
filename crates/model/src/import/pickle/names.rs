//! The names that a pickle may call, and what becomes of each. Nothing else is read.

use super::value::Global;

/// What a call of a known name gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// A dictionary.
    Dict,
    /// Its argument: `torch.Size` of a tuple.
    Size,
    /// A tensor that looks into a storage.
    Tensor(Rebuild),
    /// Its first argument, a tensor.
    Parameter,
    /// A tensor made by another known function: (function, type, arguments, state).
    TypedTensor,
    /// An instance of its first argument, a class.
    Instance,
    /// An object whose arguments don't matter.
    Inert,
    /// An object that is only ever made empty and given a state: such a class is never called.
    Stateful,
}

/// Versions of PyTorch's function that makes a tensor. All begin with (storage, offset, size, stride).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rebuild {
    /// The storage's type is the tensor's.
    Typed,
    /// The storage holds bytes; the seventh argument is the type.
    Untyped,
}

/// Packages of networks and configurations: whole modules as torchxrayvision distributes them, and Lightning's
/// hyper-parameters.
const STATEFUL_PACKAGES: [&str; 5] =
    ["torch.nn.modules", "torchvision.models", "torchvision.ops.misc", "torchxrayvision.models", "omegaconf"];

pub(super) fn known(global: &Global) -> Option<Known> {
    let known = match (global.module.as_str(), global.name.as_str()) {
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Known::Tensor(Rebuild::Typed),
        ("torch._utils", "_rebuild_tensor_v3") => Known::Tensor(Rebuild::Untyped),
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Known::Parameter,
        ("torch._tensor", "_rebuild_from_type_v2") => Known::TypedTensor,
        ("torch", "Size") => Known::Size,
        ("torch", "device") => Known::Inert,
        ("torch.serialization", "_get_layout") => Known::Inert,
        // Modules of PyTorch before 1.4 hold one.
        ("torch.nn.backends.thnn", "_get_thnn_function_backend") => Known::Inert,
        ("torch.nn.parallel.data_parallel", "DataParallel") => Known::Stateful,

        ("collections", "OrderedDict" | "defaultdict" | "Counter") | ("builtins", "dict") => Known::Dict,
        (
            "pytorch_lightning.utilities.parsing"
            | "lightning.pytorch.utilities.parsing"
            | "lightning_fabric.utilities.data"
            | "lightning.fabric.utilities.data",
            "AttributeDict",
        ) => Known::Dict,

        ("copyreg", "_reconstructor" | "__newobj__" | "__newobj_ex__") => Known::Instance,
        (
            "builtins",
            "object" | "set" | "frozenset" | "list" | "tuple" | "bytes" | "bytearray" | "complex" | "slice" | "range"
            | "xrange" | "int" | "float" | "str" | "bool",
        ) => Known::Inert,
        ("_codecs", "encode") | ("collections", "deque") => Known::Inert,
        ("argparse", "Namespace") | ("types", "SimpleNamespace") => Known::Inert,
        ("datetime", "datetime" | "date" | "time" | "timedelta" | "timezone") => Known::Inert,
        ("decimal", "Decimal") | ("fractions", "Fraction") | ("uuid", "UUID") => Known::Inert,
        (
            "pathlib" | "pathlib._local",
            "Path" | "PosixPath" | "WindowsPath" | "PurePath" | "PurePosixPath" | "PureWindowsPath",
        ) => Known::Inert,

        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar" | "_reconstruct") => Known::Inert,
        ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Known::Inert,
        ("numpy", "dtype" | "ndarray") => Known::Inert,

        (module, _) if STATEFUL_PACKAGES.iter().any(|package| is_within(module, package)) => Known::Stateful,
        _ => return None,
    };
    Some(known)
}

/// Types that a tensor may be seen as.
pub(super) fn is_tensor_type(global: &Global) -> bool {
    matches!(
        (global.module.as_str(), global.name.as_str()),
        ("torch" | "torch._tensor", "Tensor") | ("torch.nn.parameter", "Parameter" | "Buffer")
    )
}

fn is_within(module: &str, package: &str) -> bool {
    module.strip_prefix(package).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(module: &str, name: &str) -> Option<Known> {
        Global::new(module, name).ok().and_then(|global| known(&global))
    }

    #[test]
    fn packages_are_matched_by_whole_names() {
        assert_eq!(lookup("torch.nn.modules.conv", "Conv2d"), Some(Known::Stateful));
        assert_eq!(lookup("torchxrayvision.models", "DenseNet"), Some(Known::Stateful));
        assert_eq!(lookup("torchxrayvision.models_evil", "DenseNet"), None);
        assert_eq!(lookup("torch.nn.modulesx", "Conv2d"), None);
    }

    #[test]
    fn names_that_run_code_are_not_known() {
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("__builtin__", "eval"),
            ("builtins", "getattr"),
            ("torch.storage", "_load_from_bytes"),
            ("torch.hub", "load"),
            ("functools", "partial"),
            ("numpy.testing._private.utils", "runstring"),
        ] {
            assert_eq!(lookup(module, name), None, "{module}.{name}");
        }
        assert_eq!(lookup("__builtin__", "set"), Some(Known::Inert), "Python 2's name");
    }
}
