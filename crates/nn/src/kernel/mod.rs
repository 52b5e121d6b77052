//! What the operations are made of: vector functions, matrix products and access to tensor memory.

pub(crate) mod dispatch;
pub(crate) mod host;
pub(crate) mod math;
pub(crate) mod matmul;
pub(crate) mod sums;
