//! Files of real PyTorch in every format: what is read has the values that were saved, what is refused is named.

use std::{error::Error, fs, path::PathBuf};

use candle_core::DType;

use super::*;

type TestResult = Result<(), Box<dyn Error>>;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pickles").join(name)
}

fn open(name: &str) -> Result<Checkpoint, ImportError> {
    Checkpoint::open(&golden(name), |name| Some(name.to_owned()))
}

fn values(checkpoint: &Checkpoint, name: &str) -> Result<Vec<f32>, Box<dyn Error>> {
    let shape = checkpoint.shape(name).ok_or_else(|| format!("no `{name}`"))?;
    let tensor = checkpoint.tensor(name, &shape)?;
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

fn refusal(name: &str) -> Result<String, Box<dyn Error>> {
    match open(name) {
        Ok(_) => Err(format!("{name} was read").into()),
        Err(error) => Ok(error.to_string()),
    }
}

fn quarters(numbers: &[u8]) -> Vec<f32> {
    numbers.iter().map(|number| f32::from(*number) / 4.0).collect()
}

#[test]
fn every_format_gives_the_values_that_were_saved() -> TestResult {
    for name in ["lightning.ckpt", "lightning_legacy.ckpt", "protocol_5.pth"] {
        let checkpoint = open(name)?;
        let expected: [(&str, &[usize], &str, &[u8]); 13] = [
            ("plain.weight", &[2, 3], "f32", &[0, 1, 2, 3, 4, 5]),
            ("half.weight", &[2, 3], "f16", &[0, 1, 2, 3, 4, 5]),
            ("bfloat.weight", &[2, 3], "bf16", &[0, 1, 2, 3, 4, 5]),
            ("double.weight", &[2, 3], "f64", &[0, 1, 2, 3, 4, 5]),
            ("turned.weight", &[2, 3], "f32", &[0, 2, 4, 1, 3, 5]),
            ("sliced.weight", &[2, 2], "f32", &[10, 13, 26, 29]),
            ("repeated.weight", &[2, 3], "f32", &[1, 1, 1, 2, 2, 2]),
            ("scalar", &[], "f32", &[6]),
            ("empty.weight", &[0, 3], "f32", &[]),
            ("first.half", &[4], "f32", &[0, 1, 2, 3]),
            ("second.half", &[4], "f32", &[4, 5, 6, 7]),
            ("tied.weight", &[2, 3], "f32", &[0, 1, 2, 3, 4, 5]),
            ("a.parameter", &[2], "f32", &[1, 2]),
        ];
        for (tensor, shape, dtype, numbers) in expected {
            assert_eq!(checkpoint.shape(tensor).as_deref(), Some(shape), "{name}: {tensor}");
            assert_eq!(checkpoint.dtype(tensor).map(|dtype| dtype.as_str()), Some(dtype), "{name}: {tensor}");
            assert_eq!(values(&checkpoint, tensor)?, quarters(numbers), "{name}: {tensor}");
        }
        // The state dict alone: nothing of the optimiser, the callbacks and the hyper-parameters.
        assert_eq!(checkpoint.names().count(), expected.len() + 2, "{name}");
    }
    Ok(())
}

#[test]
fn half_precision_stays_half_and_double_becomes_single() -> TestResult {
    let checkpoint = open("lightning.ckpt")?;
    for (name, dtype) in [
        ("half.weight", DType::F16),
        ("bfloat.weight", DType::BF16),
        ("double.weight", DType::F32),
        ("scalar", DType::F32),
    ] {
        let shape = checkpoint.shape(name).ok_or("absent")?;
        assert_eq!(checkpoint.tensor(name, &shape)?.dtype(), dtype, "{name}");
    }
    Ok(())
}

#[test]
fn numbers_that_are_no_weights_are_listed_and_not_read() -> TestResult {
    let checkpoint = open("lightning_legacy.ckpt")?;
    for (name, dtype) in [("steps", "i64"), ("mask", "bool")] {
        assert_eq!(checkpoint.dtype(name).map(|dtype| dtype.as_str()), Some(dtype));
        let message = checkpoint.tensor(name, &[2]).err().ok_or("read")?.to_string();
        assert!(message.contains(name) && message.contains(dtype) && message.contains("floating-point"), "{message}");
    }
    Ok(())
}

#[test]
fn a_whole_network_gives_the_names_of_its_state_dict() -> TestResult {
    for name in ["module.pt", "module_legacy.pt"] {
        let checkpoint = open(name)?;
        let names: Vec<&str> = checkpoint.names().collect();
        let expected = [
            "classifier.bias",
            "classifier.weight",
            "features.conv0.bias",
            "features.conv0.weight",
            "features.layer.conv1.weight",
            "features.layer.norm1.bias",
            "features.layer.norm1.num_batches_tracked",
            "features.layer.norm1.running_mean",
            "features.layer.norm1.running_var",
            "features.layer.norm1.weight",
            "op_threshs",
        ];
        assert_eq!(names, expected, "{name}");
        assert_eq!(values(&checkpoint, "features.layer.norm1.running_var")?, [1.0, 1.0], "{name}");
        assert_eq!(values(&checkpoint, "op_threshs")?, [0.25, 0.5], "{name}");
    }
    Ok(())
}

#[test]
fn files_of_python_2_and_views_of_storages_are_read() -> TestResult {
    let checkpoint = open("python_2.pth.tar")?;
    assert_eq!(values(&checkpoint, "low")?, quarters(&[1, 2, 3]));
    assert_eq!(values(&checkpoint, "high")?, quarters(&[4, 5, 6]));
    Ok(())
}

#[test]
fn a_pickle_that_calls_something_is_refused_by_its_name_and_not_run() -> TestResult {
    for (name, called) in [
        ("evil.ckpt", "posix.system (os.system)"),
        ("evil_legacy.ckpt", "posix.system (os.system)"),
        ("unknown_class.ckpt", "pytorch_lightning.Trainer"),
    ] {
        let error = open(name).err().ok_or("read")?;
        assert!(matches!(&error, ImportError::Calls { name, .. } if name == called), "{error}");
        let message = error.to_string();
        assert!(message.contains(name) && message.contains(called), "{message}");
        assert!(message.contains("only tensors and plain containers"), "{message}");
    }
    assert!(!PathBuf::from("raygen-was-here").exists());
    Ok(())
}

#[test]
fn archives_that_are_not_read_say_what_to_do() -> TestResult {
    for (name, problem, advice) in [
        ("compressed.pth", "compressed", "zip -0"),
        ("big_endian.pth", "byte order `big`", "little-endian"),
        ("script.pt", "TorchScript", "torch.jit.load(FILE).state_dict()"),
    ] {
        let message = refusal(name)?;
        assert!(message.contains(name) && message.contains(problem) && message.contains(advice), "{message}");
    }
    Ok(())
}

#[test]
fn what_people_have_in_a_checkpoints_place_is_named() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.pth");
    let mut tar = vec![0; 257];
    tar.extend_from_slice(b"ustar\0");
    let cases: [(&[u8], &str); 6] = [
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (&tar, "tar archive"),
        (b"\x80\x04}\x94.", "a pickle of a dict"),
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "not a readable PyTorch file"),
    ];
    for (bytes, problem) in cases {
        fs::write(&path, bytes)?;
        let message = match Checkpoint::open(&path, |name| Some(name.to_owned())) {
            Ok(_) => return Err(format!("read: {problem}").into()),
            Err(error) => error.to_string(),
        };
        assert!(message.contains("model.pth") && message.contains(problem), "{message}");
    }
    Ok(())
}

#[test]
fn safetensors_are_known_by_what_they_hold() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("weights.bin");
    let tensor = Tensor::new(&[0.25f64, 0.5], &candle_core::Device::Cpu)?;
    candle_core::safetensors::save(&[("weight", tensor)].into(), &path)?;
    let checkpoint = Checkpoint::open(&path, |name| Some(name.to_owned()))?;
    assert_eq!(values(&checkpoint, "weight")?, [0.25, 0.5]);

    let bytes = fs::read(&path)?;
    fs::write(&path, &bytes[..bytes.len() - 1])?;
    let message = Checkpoint::open(&path, |name| Some(name.to_owned())).err().ok_or("read")?.to_string();
    assert!(message.contains("weights.bin") && message.contains("safetensors"), "{message}");
    Ok(())
}

#[test]
fn a_safetensors_header_that_describes_more_than_any_file_is_refused() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("huge.safetensors");
    let most = u64::MAX / 8;
    let header = format!(r#"{{"a":{{"dtype":"U8","shape":[{most}],"data_offsets":[0,{most}]}}}}"#);
    fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat())?;
    let message = Checkpoint::open(&path, |name| Some(name.to_owned())).err().ok_or("read")?.to_string();
    assert!(message.contains("huge.safetensors") && message.contains("its header describes"), "{message}");
    Ok(())
}
