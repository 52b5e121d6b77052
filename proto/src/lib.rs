//! The raygen.v1 wire: messages, clients and servers generated from `raygen/v1/*.proto`.

#![forbid(unsafe_code)]

/// Messages, clients and servers of package `raygen.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated code")]
#[allow(clippy::large_types_passed_by_value, clippy::needless_pass_by_value, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("raygen.v1");
}

/// Messages and service of the KServe V2 protocol, package `inference`.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated code")]
#[allow(clippy::large_types_passed_by_value, clippy::needless_pass_by_value, reason = "generated code")]
pub mod inference {
    tonic::include_proto!("inference");
}

/// Encoded `FileDescriptorSet` of every proto file and what it imports, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/raygen_descriptor.bin"));

/// Domain of every `google.rpc.ErrorInfo` that the server sends.
pub const ERROR_DOMAIN: &str = "raygen";
