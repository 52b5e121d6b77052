//! Where models run and in which precision.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use candle_core::{DType, Device};

/// Which device to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// CUDA where there is one, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by number.
    Cuda(usize),
}

/// Which precision to compute in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DtypeChoice {
    /// f32 on the CPU, bf16 on CUDA.
    #[default]
    Auto,
    /// 32 bits.
    F32,
    /// 16 bits with the range of 32.
    Bf16,
    /// 16 bits.
    F16,
}

/// A device and a precision.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The device.
    pub device: Device,
    /// The precision.
    pub dtype: DType,
}

// === impl DeviceChoice ===

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("{text:?} is not a device; there are auto, cpu, cuda and cuda:N");
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(|n| n.parse().ok()).map(Self::Cuda).ok_or_else(unknown),
        }
    }
}

impl Display for DeviceChoice {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(ordinal) => write!(formatter, "cuda:{ordinal}"),
        }
    }
}

// === impl DtypeChoice ===

impl FromStr for DtypeChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            _ => Err(format!("{text:?} is not a precision; there are auto, f32, bf16 and f16")),
        }
    }
}

impl Display for DtypeChoice {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

// === impl Placement ===

impl Placement {
    /// Opens the device.
    ///
    /// # Errors
    /// It is not there, or this build has no CUDA.
    pub fn open(device: DeviceChoice, dtype: DtypeChoice) -> Result<Self, String> {
        let cuda = candle_core::utils::cuda_is_available();
        let device = match device {
            DeviceChoice::Cuda(_) if !cuda => {
                return Err(format!("{device} was asked for, but this build has no CUDA; use cpu, or the CUDA build"));
            }
            DeviceChoice::Auto if !cuda => Device::Cpu,
            DeviceChoice::Cpu => Device::Cpu,
            DeviceChoice::Auto => Device::new_cuda(0).map_err(|error| format!("cuda:0 cannot be used: {error}"))?,
            DeviceChoice::Cuda(ordinal) => {
                Device::new_cuda(ordinal).map_err(|error| format!("cuda:{ordinal} cannot be used: {error}"))?
            }
        };
        let dtype = match dtype {
            DtypeChoice::Auto if device.is_cuda() => DType::BF16,
            DtypeChoice::Auto | DtypeChoice::F32 => DType::F32,
            DtypeChoice::Bf16 => DType::BF16,
            DtypeChoice::F16 => DType::F16,
        };
        Ok(Self { device, dtype })
    }
}

impl Display for Placement {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self.device.location() {
            candle_core::DeviceLocation::Cuda { gpu_id } => write!(formatter, "cuda:{gpu_id}")?,
            _ => formatter.write_str("cpu")?,
        }
        write!(formatter, " in {}", self.dtype.as_str())
    }
}
