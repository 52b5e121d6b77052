//! Compiles the protos with protox (no protoc on the machine) and keeps their descriptors for gRPC reflection.

use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 4] = [
    "raygen/v1/types.proto",
    "raygen/v1/raygen_service.proto",
    "raygen/v1/model_service.proto",
    "kserve/inference.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    // tonic-prost-build prints none of these when it is handed descriptors.
    println!("cargo:rerun-if-changed=build.rs");
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }

    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(FILES)?;

    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("raygen_descriptor.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
