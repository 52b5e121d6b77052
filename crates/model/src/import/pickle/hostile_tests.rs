//! Files that were damaged or written to harm: an error that names the file, soon, and little memory.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;

use super::*;

type TestResult = Result<(), Box<dyn Error>>;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pickles").join(name)
}

/// Reads all that a file holds.
fn read_all(path: &Path) -> Result<usize, String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let tensors = tensors(path, &file, length).map_err(|error| error.to_string())?;
    let floats = tensors.values().filter(|stored| stored.element.is_float());
    Ok(floats
        .filter(|stored| stored.size().is_some_and(|size| size <= 1 << 20))
        .map(|stored| stored.read(&mut file))
        .count())
}

/// The legacy format around the pickle of an object that has no storages.
fn legacy(object: &[u8]) -> Vec<u8> {
    let head = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    [head.as_slice(), object, b"\x80\x02].", &[0; 64]].concat()
}

fn message(object: &[u8]) -> Result<String, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("hostile.pth");
    fs::write(&path, legacy(object))?;
    match read_all(&path) {
        Ok(tensors) => Err(format!("{tensors} tensors were read").into()),
        Err(message) => Ok(message),
    }
}

/// A pickle of `{"w": tensor}`: shape and strides of one dimension each, on a storage of 8 floats.
fn tensor(count: &[u8], offset: &[u8], size: &[u8], stride: &[u8]) -> Vec<u8> {
    let storage = [b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu".as_slice(), count, b"tQ"].concat();
    let arguments = [b"(".as_slice(), &storage, offset, size, b"\x85", stride, b"\x85t"].concat();
    [b"\x80\x02}U\x01wctorch._utils\n_rebuild_tensor\n".as_slice(), &arguments, b"Rs."].concat()
}

fn number(value: i64) -> Vec<u8> {
    [b"\x8a\x08".as_slice(), &value.to_le_bytes()].concat()
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_refused_by_name() -> TestResult {
    let folder = tempfile::tempdir()?;
    for (name, step) in [("lightning.ckpt", 7), ("lightning_legacy.ckpt", 1), ("python_2.pth.tar", 1)] {
        let whole = fs::read(golden(name))?;
        let path = folder.path().join(name);
        fs::write(&path, &whole)?;
        let file = fs::OpenOptions::new().write(true).open(&path)?;
        for length in (0..whole.len()).rev().step_by(step) {
            file.set_len(length as u64)?;
            let message = read_all(&path).err().ok_or_else(|| format!("{length} bytes of {name} were read"))?;
            assert!(message.contains(name), "{length} bytes: {message}");
        }
    }
    Ok(())
}

#[test]
fn a_changed_byte_never_panics() -> TestResult {
    let folder = tempfile::tempdir()?;
    for name in ["lightning.ckpt", "lightning_legacy.ckpt", "module.pt", "python_2.pth.tar"] {
        let whole = fs::read(golden(name))?;
        let path = folder.path().join(name);
        // Steps of a prime, so that every kind of byte meets every change.
        for (place, change) in (0..whole.len()).step_by(7).zip([0xff, 0x01, 0x80].into_iter().cycle()) {
            let mut bytes = whole.clone();
            bytes[place] ^= change;
            fs::write(&path, &bytes)?;
            if let Err(message) = read_all(&path) {
                assert!(message.contains(name), "byte {place}: {message}");
            }
        }
    }
    Ok(())
}

#[test]
fn tensors_outside_of_their_storage_are_refused() -> TestResult {
    let eight = number(8);
    for (offset, size, stride) in [
        (0, 9, 1),
        (1, 8, 1),
        (0, 2, 8),
        (0, 5, 2),
        (i64::MAX, 8, 1),
        (0, i64::MAX, i64::MAX),
        (i64::MAX, i64::MAX, 1),
        (0, i64::MAX, 0),
        (-1, 8, 1),
        (0, -8, 1),
        (0, 8, -1),
    ] {
        let object = tensor(&eight, &number(offset), &number(size), &number(stride));
        let storage = [b"\x80\x02]U\x010a.".as_slice(), &8i64.to_le_bytes(), &[0; 32]].concat();
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("hostile.pth");
        let whole = legacy(&object);
        let head = whole.len() - 64 - 4;
        fs::write(&path, [&whole[..head], &storage].concat())?;
        let message = read_all(&path).err().ok_or_else(|| format!("({offset}, {size}, {stride}) was read"))?;
        assert!(message.contains("hostile.pth"), "{message}");
    }
    Ok(())
}

#[test]
fn a_tensor_whose_storage_is_missing_is_named() -> TestResult {
    let message = message(&tensor(&number(8), b"K\0", b"K\x08", b"K\x01"))?;
    assert!(message.contains("tensor `w`") && message.contains("storage `0` is not in the file"), "{message}");
    Ok(())
}

#[test]
fn invented_lengths_take_no_memory() -> TestResult {
    let huge = u64::MAX.to_le_bytes();
    for opcode in [0x8du8, 0x8e, 0x96] {
        let message = message(&[b"\x80\x04".as_slice(), &[opcode], &huge].concat())?;
        assert!(message.contains("ends early"), "{message}");
    }
    for opcode in [b'X', b'T', b'B', 0x8b] {
        let message = message(&[b"\x80\x02".as_slice(), &[opcode], &[0xff; 4]].concat())?;
        assert!(message.contains("ends early"), "{message}");
    }
    Ok(())
}

#[test]
fn stack_marks_memo_and_values_are_bounded() -> TestResult {
    let repeated = |head: &[u8], opcode: &[u8], times: usize| [head, &opcode.repeat(times), b"."].concat();
    for (object, what) in [
        (repeated(b"\x80\x02N", b"2", 5 << 20), "values on its stack"),
        (repeated(b"\x80\x02", b"(", 1 << 20), "nested marks"),
        (repeated(b"\x80\x04N", b"\x940N", 5 << 20), "values in its pickle"),
        // A list of a million, copied into dictionaries again and again.
        (repeated(&repeated_pairs(1 << 20), b"h\x01h\0\x85R0", 1 << 20), "places in its containers"),
    ] {
        let message = message(&object)?;
        assert!(message.contains(what), "{message}");
    }
    Ok(())
}

#[test]
fn names_and_dimensions_that_are_made_again_and_again_are_bounded() -> TestResult {
    // Five bytes of opcodes copy two names of a kilobyte: 25 MB of them would fill 10 GB.
    let long = [b"U\xff".as_slice(), &[b'a'; 255]].concat();
    let names = [b"\x80\x04".as_slice(), &long, b"q\0", &long, b"q\x01"].concat();
    let globals = [names.as_slice(), &b"h\0h\x01\x930".repeat(5 << 20)].concat();
    // A tensor of 32 dimensions, made again from a tuple in the memo.
    let storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x08tQ";
    let dimensions = [b"(".as_slice(), &b"K\x01".repeat(32), b"tq\x02"].concat();
    let arguments = [b"(".as_slice(), storage, b"K\0", &dimensions, b"h\x02tq\x03"].concat();
    let function = b"\x80\x02ctorch._utils\n_rebuild_tensor\nq\x04".as_slice();
    let tensors = [function, &arguments, &b"h\x04h\x03R0".repeat(5 << 20)].concat();
    for object in [globals, tensors] {
        let message = message(&object)?;
        assert!(message.contains("bytes in its values"), "{message}");
    }
    Ok(())
}

/// A list of pairs as entry 0 of the memo, `OrderedDict` as entry 1.
fn repeated_pairs(count: usize) -> Vec<u8> {
    [b"\x80\x02](N2\x86".as_slice(), &b"2".repeat(count - 1), b"eq\0", b"ccollections\nOrderedDict\nq\x01"].concat()
}

#[test]
fn a_network_inside_itself_is_refused() -> TestResult {
    let class = b"ctorch.nn.modules.container\nSequential\n)\x81q\0";
    let inner = b"}U\x08_modules}(U\x01ah\0U\x01bh\0usb.";
    let message = message(&[b"\x80\x02".as_slice(), class, inner].concat())?;
    assert!(message.contains("nested modules"), "{message}");
    Ok(())
}

#[test]
fn every_way_of_calling_is_refused() -> TestResult {
    for object in [
        b"\x80\x02cos\nsystem\nU\x04true\x85R.".as_slice(),
        b"\x80\x02cos\nsystem\nU\x04true\x85\x81.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85}\x92.",
        b"(S'true'\nios\nsystem\n.",
        b"(cos\nsystem\nS'true'\no.",
        b"\x80\x02cos\nsystem\n}b.",
        b"\x80\x02ccopy_reg\n_reconstructor\ncos\nsystem\nc__builtin__\nobject\nN\x87R.",
        b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nctorch\nTensor\n)NtR.",
    ] {
        let message = message(object)?;
        assert!(message.contains("pickle calls os.system"), "{message}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_opcodes_end_without_a_panic(object in prop::collection::vec(piece(), 0..60)) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("random.pth");
        fs::write(&path, legacy(&object.concat())).expect("a file");
        if let Err(message) = read_all(&path) {
            prop_assert!(message.contains("random.pth"), "{}", message);
        }
    }
}

/// An opcode with its operand, or any byte.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let whole: Vec<&[u8]> = vec![
        b"(",
        b"t",
        b"}",
        b"]",
        b")",
        b"N",
        b"R",
        b"b",
        b"Q",
        b"\x81",
        b"\x85",
        b"\x86",
        b"\x87",
        b"s",
        b"u",
        b"a",
        b"e",
        b"0",
        b"1",
        b"2",
        b"q\0",
        b"h\0",
        b"q\x01",
        b"h\x01",
        b"\x94",
        b"\x8f",
        b"\x90",
        b"\x91",
        b"K\x02",
        b"K\x00",
        b"\x88",
        b".",
        b"o",
        b"l",
        b"d",
        b"\x92",
        b"\x93",
        b"U\x07storage",
        b"U\x010",
        b"U\x08_modules",
        b"U\x0b_parameters",
        b"U\x0astate_dict",
        b"ctorch\nFloatStorage\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch._utils\n_rebuild_parameter\n",
        b"ccollections\nOrderedDict\n",
        b"ctorch.nn.modules.linear\nLinear\n",
        b"ccopy_reg\n_reconstructor\n",
        b"ctorch\nSize\n",
    ];
    prop_oneof![
        9 => prop::sample::select(whole).prop_map(<[u8]>::to_vec),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ]
}
