//! A tensor where it lies in a file: its type, its place, its shape and strides; read when it is asked for.

use std::{
    fmt,
    fs::File,
    io::{Read, Seek, SeekFrom},
};

use candle_core::{Device, Tensor};
use half::{bf16, f16};

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Element {
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// Numbers that are no weights: they are listed, and not read.
    #[non_exhaustive]
    Other {
        /// A short name.
        name: &'static str,
        /// Bytes of one number.
        bytes: u64,
    },
}

/// Where a tensor lies; sizes and offsets in elements but for `start` and `length`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredTensor {
    pub(super) element: Element,
    /// First byte of the storage in the file.
    pub(super) start: u64,
    /// Bytes of the storage, which other tensors may share.
    pub(super) length: u64,
    /// First element within the storage.
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

impl Element {
    /// By the name of PyTorch's storage class.
    pub(super) fn of_storage(class: &str) -> Option<Self> {
        let dtype = match class {
            "FloatStorage" => "float32",
            "HalfStorage" => "float16",
            "BFloat16Storage" => "bfloat16",
            "DoubleStorage" => "float64",
            "LongStorage" => "int64",
            "IntStorage" => "int32",
            "ShortStorage" => "int16",
            "CharStorage" => "int8",
            "ByteStorage" => "uint8",
            "BoolStorage" => "bool",
            "ComplexFloatStorage" => "complex64",
            "ComplexDoubleStorage" => "complex128",
            // Bytes whose type only the tensor knows.
            "UntypedStorage" | "_UntypedStorage" => "uint8",
            _ => return None,
        };
        Self::of_dtype(dtype)
    }

    /// By PyTorch's name.
    pub(super) fn of_dtype(name: &str) -> Option<Self> {
        let other = |name, bytes| Self::Other { name, bytes };
        Some(match name {
            "float16" | "half" => Self::F16,
            "bfloat16" => Self::Bf16,
            "float32" | "float" => Self::F32,
            "float64" | "double" => Self::F64,
            "int64" | "long" => other("i64", 8),
            "int32" | "int" => other("i32", 4),
            "int16" | "short" => other("i16", 2),
            "int8" => other("i8", 1),
            "uint64" => other("u64", 8),
            "uint32" => other("u32", 4),
            "uint16" => other("u16", 2),
            "uint8" => other("u8", 1),
            "bool" => other("bool", 1),
            "complex64" | "cfloat" => other("c64", 8),
            "complex128" | "cdouble" => other("c128", 16),
            "float8_e4m3fn" => other("f8_e4m3fn", 1),
            "float8_e4m3fnuz" => other("f8_e4m3fnuz", 1),
            "float8_e5m2" => other("f8_e5m2", 1),
            "float8_e5m2fnuz" => other("f8_e5m2fnuz", 1),
            "float8_e8m0fnu" => other("f8_e8m0fnu", 1),
            _ => return None,
        })
    }

    /// A short name: `f32`, `bf16`, `i64`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Other { name, .. } => name,
        }
    }

    /// Whether the numbers may be weights: only those types are read.
    pub fn is_float(&self) -> bool {
        !matches!(self, Self::Other { .. })
    }

    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Other { bytes, .. } => bytes,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a stored tensor gives none.
pub(super) enum ReadError {
    /// What is wrong with the tensor, as a predicate of it.
    Tensor(String),
    /// A value is NaN or infinite.
    NotFinite,
}

impl StoredTensor {
    /// Whether all elements lie within the storage, and their number can be counted.
    pub(super) fn check(&self) -> Result<(), String> {
        let span = self.span().and_then(|span| span.checked_add(self.offset));
        let inside = span.and_then(|end| end.checked_mul(self.element.bytes())).is_some_and(|end| end <= self.length);
        if inside && self.size().is_some() {
            return Ok(());
        }
        let Self { shape, strides, offset, length, .. } = self;
        Err(format!(
            "shape {shape:?}, strides {strides:?} and offset {offset} reach beyond its storage of {length} bytes"
        ))
    }

    /// Bytes of all elements, side by side; none if no memory could hold them.
    pub(super) fn size(&self) -> Option<u64> {
        // Dimensions of none count as one, so that the strides of an empty tensor can be counted too.
        let sizes = self.shape.iter().map(|size| *size as u64);
        let bytes = sizes.clone().try_fold(self.element.bytes(), |bytes, size| bytes.checked_mul(size.max(1)))?;
        let empty = sizes.clone().any(|size| size == 0);
        (bytes <= isize::MAX as u64).then_some(if empty { 0 } else { bytes })
    }

    /// Elements from the first to the last, those between them included.
    fn span(&self) -> Option<u64> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        self.shape
            .iter()
            .zip(&self.strides)
            .try_fold(1, |span: u64, (size, stride)| span.checked_add((*size as u64 - 1).checked_mul(*stride as u64)?))
    }

    /// Reads weights: half precision stays as it is, f64 becomes f32, NaN and infinity are refused.
    pub(super) fn read(&self, file: &mut File) -> Result<Tensor, ReadError> {
        self.read_numbers(file, true)
    }

    /// The same of numbers among which NaN means something.
    pub(super) fn read_any(&self, file: &mut File) -> Result<Tensor, ReadError> {
        self.read_numbers(file, false)
    }

    fn read_numbers(&self, file: &mut File, finite: bool) -> Result<Tensor, ReadError> {
        self.check().map_err(ReadError::Tensor)?;
        match self.element {
            Element::F32 => self.collect(file, f32::from_le_bytes, |value| !finite || value.is_finite()),
            Element::F64 => {
                self.collect(file, |bytes| f64::from_le_bytes(bytes) as f32, |value| !finite || value.is_finite())
            }
            Element::F16 => self.collect(file, f16::from_le_bytes, |value| !finite || value.is_finite()),
            Element::Bf16 => self.collect(file, bf16::from_le_bytes, |value| !finite || value.is_finite()),
            Element::Other { name, .. } => {
                Err(ReadError::Tensor(format!("has type {name}; expected a floating-point type")))
            }
        }
    }

    fn collect<const N: usize, T: candle_core::WithDType>(
        &self,
        file: &mut File,
        value: impl Fn([u8; N]) -> T,
        is_allowed: impl Fn(T) -> bool,
    ) -> Result<Tensor, ReadError> {
        let bytes = self.bytes(file).map_err(|error| ReadError::Tensor(format!("cannot be read: {error}")))?;
        let stored = bytes.as_chunks::<N>().0;
        let values: Option<Vec<T>> = if self.is_contiguous() {
            Some(stored.iter().map(|bytes| value(*bytes)).collect())
        } else {
            self.places().map(|place| stored.get(place).map(|bytes| value(*bytes))).collect()
        };
        let values = values.ok_or_else(|| ReadError::Tensor("reaches beyond its storage".to_owned()))?;
        if !values.iter().all(|value| is_allowed(*value)) {
            return Err(ReadError::NotFinite);
        }
        Tensor::from_vec(values, self.shape.as_slice(), &Device::Cpu)
            .map_err(|error| ReadError::Tensor(error.to_string()))
    }

    /// The bytes from the first element to the last.
    fn bytes(&self, file: &mut File) -> std::io::Result<Vec<u8>> {
        let bytes = self.element.bytes();
        let length = self.span().unwrap_or(0).saturating_mul(bytes);
        file.seek(SeekFrom::Start(self.start.saturating_add(self.offset.saturating_mul(bytes))))?;
        let mut read = Vec::with_capacity(usize::try_from(length).map_err(std::io::Error::other)?);
        file.by_ref().take(length).read_to_end(&mut read)?;
        if read.len() as u64 == length { Ok(read) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
    }

    fn is_contiguous(&self) -> bool {
        self.strides == contiguous(&self.shape)
    }

    /// The place of every element in the span, row-major.
    fn places(&self) -> impl Iterator<Item = usize> {
        let count = if self.shape.contains(&0) { 0 } else { self.shape.iter().product() };
        let mut index = vec![0usize; self.shape.len()];
        let mut place = 0usize;
        (0..count).map(move |_| {
            let here = place;
            for ((index, size), stride) in index.iter_mut().zip(&self.shape).zip(&self.strides).rev() {
                *index += 1;
                // The stride of a dimension of one element is never used, and may be any number.
                place = place.wrapping_add(*stride);
                if *index < *size {
                    break;
                }
                place = place.wrapping_sub(index.wrapping_mul(*stride));
                *index = 0;
            }
            here
        })
    }
}

/// Strides of a tensor whose elements lie side by side, row-major.
pub(super) fn contiguous(shape: &[usize]) -> Vec<usize> {
    let mut strides: Vec<usize> = shape
        .iter()
        .rev()
        .scan(1usize, |stride, size| {
            let here = *stride;
            *stride = stride.saturating_mul(*size);
            Some(here)
        })
        .collect();
    strides.reverse();
    strides
}
