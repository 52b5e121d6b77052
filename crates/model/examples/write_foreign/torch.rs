//! What `torch.save` writes: a zip archive of one pickle, which describes tensors, and one member of numbers for each.

use std::{
    error::Error,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// A tensor to write.
#[derive(Clone)]
pub(crate) struct TorchTensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) fill: Fill,
}

/// What it holds.
#[derive(Clone, PartialEq)]
pub(crate) enum Fill {
    /// Uniform in ±0.035, which has BERT's standard deviation of 0.02.
    Random,
    Ones,
    Zeros,
    /// 0, 1, 2, ... as 64-bit integers.
    Counting,
    /// These, row-major.
    Values(Vec<f32>),
}

/// What a trainer's dictionary holds beside the tensors, and under which names.
pub(crate) struct Layout {
    numbers: &'static [(&'static str, usize)],
    tensors: &'static str,
    optimiser: &'static str,
}

/// Lightning's `.ckpt`, as RayGen's and taming's trainers write it.
pub(crate) const LIGHTNING: Layout = Layout {
    numbers: &[("epoch", 98), ("global_step", 740_223)],
    tensors: "state_dict",
    optimiser: "optimizer_states",
};
/// RayGen's debug dump, a `.pth`.
pub(crate) const DUMP: Layout = Layout { numbers: &[], tensors: "model", optimiser: "opt" };
/// RayGen's classifier.
pub(crate) const CLASSIFIER: Layout =
    Layout { numbers: &[("epoch", 9)], tensors: "model_state_dict", optimiser: "optimizer_state_dict" };

impl TorchTensor {
    /// The same with a prefix to its name.
    pub(crate) fn renamed(&self, prefix: &str) -> Self {
        Self { name: format!("{prefix}{}", self.name), ..self.clone() }
    }

    fn count(&self) -> usize {
        self.shape.iter().product()
    }

    fn storage(&self) -> &'static str {
        if self.fill == Fill::Counting { "LongStorage" } else { "FloatStorage" }
    }

    fn bytes(&self, random: &mut Random) -> Vec<u8> {
        let count = self.count();
        let floats = |value: f32| value.to_le_bytes().repeat(count);
        match &self.fill {
            Fill::Random => (0..count).flat_map(|_| random.next().to_le_bytes()).collect(),
            Fill::Ones => floats(1.0),
            Fill::Zeros => floats(0.0),
            Fill::Counting => (0..count as i64).flat_map(i64::to_le_bytes).collect(),
            Fill::Values(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }
}

/// Writes a state dict, in a trainer's dictionary or at the top.
pub(crate) fn write(path: &Path, layout: Option<&Layout>, tensors: &[TorchTensor]) -> Result<(), Box<dyn Error>> {
    let mut archive = ZipWriter::new(BufWriter::new(File::create(path)?));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut member = |name: &str, bytes: &[u8]| -> Result<(), Box<dyn Error>> {
        archive.start_file(format!("archive/{name}"), options)?;
        Ok(archive.write_all(bytes)?)
    };
    member("data.pkl", &pickle(layout, tensors)?)?;
    member("byteorder", b"little")?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (key, tensor) in tensors.iter().enumerate() {
        member(&format!("data/{key}"), &tensor.bytes(&mut random))?;
    }
    if layout.is_some() {
        member("data/momentum", &momentum().bytes(&mut random))?;
    }
    member("version", b"3\n")?;
    archive.finish()?.flush()?;
    Ok(())
}

/// xorshift64*: any numbers do.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40;
        (bits as f32 / 16_777_216.0 - 0.5) * 0.07
    }
}

/// A tensor of the optimiser, which is none of the network's.
fn momentum() -> TorchTensor {
    TorchTensor { name: "exp_avg".to_owned(), shape: vec![2, 3], fill: Fill::Zeros }
}

fn pickle(layout: Option<&Layout>, tensors: &[TorchTensor]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut pickle = Pickle(vec![0x80, 2]);
    if let Some(Layout { numbers, tensors, .. }) = layout {
        pickle.op(b"}(");
        for (name, number) in *numbers {
            pickle.text(name)?;
            pickle.number(*number)?;
        }
        pickle.text(tensors)?;
    }
    pickle.ordered_dict();
    pickle.op(b"(");
    for (key, tensor) in tensors.iter().enumerate() {
        pickle.text(&tensor.name)?;
        pickle.tensor(&key.to_string(), tensor)?;
    }
    pickle.op(b"u");
    if let Some(Layout { optimiser, .. }) = layout {
        // {"state": {0: {"exp_avg": tensor}}}
        pickle.text(optimiser)?;
        pickle.op(b"}");
        pickle.text("state")?;
        pickle.op(b"}");
        pickle.number(0)?;
        pickle.op(b"}");
        pickle.text(&momentum().name)?;
        pickle.tensor("momentum", &momentum())?;
        pickle.op(b"sssu");
    }
    pickle.op(b".");
    Ok(pickle.0)
}

/// Protocol 2, as far as a state dict needs it.
struct Pickle(Vec<u8>);

impl Pickle {
    fn op(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    fn global(&mut self, module: &str, name: &str) {
        self.op(format!("c{module}\n{name}\n").as_bytes());
    }

    fn text(&mut self, text: &str) -> Result<(), Box<dyn Error>> {
        self.op(b"X");
        self.op(&u32::try_from(text.len())?.to_le_bytes());
        self.op(text.as_bytes());
        Ok(())
    }

    fn number(&mut self, number: usize) -> Result<(), Box<dyn Error>> {
        self.op(b"J");
        self.op(&i32::try_from(number)?.to_le_bytes());
        Ok(())
    }

    fn numbers(&mut self, numbers: &[usize]) -> Result<(), Box<dyn Error>> {
        self.op(b"(");
        for number in numbers {
            self.number(*number)?;
        }
        self.op(b"t");
        Ok(())
    }

    fn ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.op(b")R");
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)`.
    fn tensor(&mut self, key: &str, tensor: &TorchTensor) -> Result<(), Box<dyn Error>> {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.op(b"((");
        self.text("storage")?;
        self.global("torch", tensor.storage());
        self.text(key)?;
        self.text("cpu")?;
        self.number(tensor.count())?;
        self.op(b"tQ");
        self.number(0)?;
        self.numbers(&tensor.shape)?;
        let mut strides = vec![1; tensor.shape.len()];
        for side in (1..strides.len()).rev() {
            strides[side - 1] = strides[side] * tensor.shape[side];
        }
        self.numbers(&strides)?;
        self.op(&[0x89]);
        self.ordered_dict();
        self.op(b"tR");
        Ok(())
    }
}
