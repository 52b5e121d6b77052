# Sourced by the other scripts: unpacks a binary, finds the CUDA libraries, notes the device.

# A stripped binary, under xz or not, ready to run: prints its path.
unpack() {
    local binary out=$2
    binary=$(realpath "$1")
    if [[ $binary == *.xz ]]; then
        local plain=$out/$(basename "${binary%.xz}")
        xz --decompress --keep --stdout "$binary" >"$plain"
        binary=$plain
    fi
    chmod +x "$binary"
    echo "$binary"
}

# The libraries lie where PyTorch's wheels put them. With DEVICE=cpu nothing of it is needed.
find_cuda() {
    local wheels
    wheels=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null || true)
    [[ -z $wheels ]] || export LD_LIBRARY_PATH=$wheels/cu13/lib:$wheels/cudnn/lib:$wheels/nccl/lib:${LD_LIBRARY_PATH:-}
}

# What it ran on, into OUT/device.txt.
note_device() {
    if [[ $DEVICE == cpu* ]]; then
        echo "cpu, $(nproc) cores" | tee "$1/device.txt"
    else
        nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$1/device.txt"
    fi
}
