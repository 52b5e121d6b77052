#!/usr/bin/env bash
# Builds with the feature `cuda` on a machine that needs neither a GPU nor a driver nor CUDA: the compiler comes from PyPI's wheels, the
# libraries that the linker asks for are stubs made from cudarc's own list of symbols. About 10 minutes on 2 cores.
#
#   proofs/gpu/build.sh                 what the scripts beside this one run (golden_parity, device_proof, raygen-trainer), stripped,
#                                       under xz, into target/cuda/
#   proofs/gpu/build.sh -p raygen-server --features cuda     anything else: the arguments of cargo build --release
#
# CUDA 13.0, and no newer one: driver 580 refuses the PTX of later compilers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

TOOLKIT=${CUDA_TOOLKIT_DIR:-$PWD/target/cuda/toolkit}
if [[ ! -x $TOOLKIT/nvidia/cu13/bin/nvcc ]]; then
    # The smallest set: driver, host headers, code generator, runtime headers, C++ library.
    python3 -m pip install -q --no-deps --target "$TOOLKIT" \
        nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
        nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
fi
export CUDA_HOME=$TOOLKIT/nvidia/cu13
chmod +x "$CUDA_HOME"/bin/* "$CUDA_HOME"/nvvm/bin/*
[[ -e $CUDA_HOME/lib64 ]] || ln -s lib "$CUDA_HOME/lib64"
[[ -e $CUDA_HOME/lib/libcudart.so ]] || ln -s libcudart.so.13 "$CUDA_HOME/lib/libcudart.so"

cargo fetch --locked --quiet
cudarc=$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/cudarc-0.19.* | sort -V | tail -1)
stubs=$CUDA_HOME/lib/stubs
mkdir -p "$stubs"
# module of cudarc, prefix of its functions, name to link, name to load. Every stub answers CUDA_ERROR_STUB_LIBRARY.
stub() {
    grep -ohE "pub unsafe fn $2[A-Za-z0-9_]+" "$cudarc/src/$1/sys/mod.rs" | awk '{print $4}' | sort -u |
        sed 's/.*/int &(void){return 34;}/' >"$stubs/$1.c"
    cc -shared -fPIC -Wl,-soname,"$4" -o "$stubs/$4" "$stubs/$1.c"
    ln -sf "$4" "$stubs/lib$3.so"
}
stub driver cu cuda libcuda.so.1
stub cublas cublas cublas libcublas.so.13
stub cublaslt cublasLt cublasLt libcublasLt.so.13
stub curand curand curand libcurand.so.10
stub nvrtc nvrtc nvrtc libnvrtc.so.13
stub nccl nccl nccl libnccl.so.2

export PATH=$CUDA_HOME/bin:$PATH
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}
export CUDARC_CUDA_VERSION=13000
export LIBRARY_PATH=$stubs:$CUDA_HOME/lib
export CUDAFORGE_THREADS=${CUDAFORGE_THREADS:-2}
# Another folder than the CPU's builds, which keep their artefacts.
export CARGO_TARGET_DIR=$PWD/target/cuda/build

if (($#)); then
    cargo build --locked --release "$@"
    exit
fi
cargo build --locked --release -p raygen-model --example golden_parity --features raygen-model/cuda
cargo build --locked --release -p raygen-trainer --bin raygen-trainer --example device_proof --features cuda,nccl
for binary in examples/golden_parity examples/device_proof raygen-trainer; do
    name=$(basename "$binary")
    strip -o "target/cuda/$name" "$CARGO_TARGET_DIR/release/$binary"
    xz --keep --force "target/cuda/$name"
    ls -l "target/cuda/$name.xz"
done
