//! Tensors of the KServe protocol: what clients send to a request of ours, what we made to theirs.

use std::collections::HashMap;

use raygen_proto::inference::infer_parameter::ParameterChoice;
use raygen_proto::inference::model_infer_request::InferInputTensor;
use raygen_proto::inference::model_infer_response::InferOutputTensor;
use raygen_proto::inference::{InferParameter, InferTensorContents, ModelInferRequest};
use raygen_proto::v1;
use tonic::Status;

/// One value of an input.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    Whole(i128),
    Real(f64),
}

/// Names of what can be asked for, as in `GenerateRequest` and `SamplingParams`.
pub(super) const INPUTS: [(&str, &str); 10] = [
    ("impression", "BYTES"),
    ("negative_impression", "BYTES"),
    ("seed", "UINT64"),
    ("step_count", "UINT32"),
    ("sample_count", "UINT32"),
    ("temperature", "FP32"),
    ("top_k_filter", "FP32"),
    ("guidance_scale", "FP32"),
    ("choice_temperature", "FP32"),
    ("refinement", "FP32"),
];

/// Parameters that clients and servers of the protocol use among themselves.
const PROTOCOLS_OWN: [&str; 9] = [
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "priority",
    "timeout",
    "headers",
    "binary_data_output",
    "triton_enable_empty_final_response",
    "traceparent",
];

/// The request of ours that a request of theirs means. Inputs come as tensors of one value, or as request parameters.
///
/// # Errors
/// INVALID_ARGUMENT that names the tensor.
pub(super) fn request(infer: &ModelInferRequest) -> Result<v1::GenerateRequest, Status> {
    let mut values: HashMap<&str, Value> = HashMap::new();
    let raw = &infer.raw_input_contents;
    if !raw.is_empty() && raw.len() != infer.inputs.len() {
        return Err(wrong(format!("raw_input_contents: {} came for {} inputs", raw.len(), infer.inputs.len())));
    }
    for (at, tensor) in infer.inputs.iter().enumerate() {
        if !INPUTS.iter().any(|(name, _)| *name == tensor.name) {
            let names = INPUTS.map(|(name, _)| name).join(", ");
            return Err(wrong(format!("inputs[{at}]: there is no input {:?}; there are {names}", shown(&tensor.name))));
        }
        let value = match raw.get(at) {
            Some(bytes) => from_raw(tensor, bytes),
            None => from_contents(tensor),
        };
        values.insert(&tensor.name, value.map_err(|problem| wrong(format!("{}: {problem}", tensor.name)))?);
    }
    for (name, parameter) in &infer.parameters {
        if PROTOCOLS_OWN.contains(&name.as_str()) {
            continue;
        }
        if !INPUTS.iter().any(|(known, _)| known == name) {
            return Err(wrong(format!("parameters: there is no {:?}", shown(name))));
        }
        let value = from_parameter(parameter).ok_or_else(|| wrong(format!("parameters: {name} has no value")))?;
        values.entry(name).or_insert(value);
    }

    let mut values = Values(values);
    let impression = values.text("impression")?.ok_or_else(|| wrong("impression: is missing".to_owned()))?;
    let sampling = v1::SamplingParams {
        step_count: values.small("step_count")?,
        temperature: values.real("temperature")?,
        top_k_filter: values.real("top_k_filter")?,
        guidance_scale: values.real("guidance_scale")?,
        choice_temperature: values.real("choice_temperature")?,
        refinement: values.real("refinement")?,
        seed: values.seed("seed")?,
        ..v1::SamplingParams::default()
    };
    Ok(v1::GenerateRequest {
        impression,
        negative_impression: values.text("negative_impression")?.unwrap_or_default(),
        sampling: Some(sampling),
        sample_count: values.small("sample_count")?.unwrap_or_default(),
        ..v1::GenerateRequest::default()
    })
}

struct Values<'a>(HashMap<&'a str, Value>);

// === impl Values ===

impl Values<'_> {
    fn text(&mut self, name: &str) -> Result<Option<String>, Status> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(format!("{name}: must be BYTES that hold text"))),
        }
    }

    fn whole(&mut self, name: &str) -> Result<Option<i128>, Status> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::Whole(number)) => Ok(Some(number)),
            Some(_) => Err(wrong(format!("{name}: must be a whole number"))),
        }
    }

    fn small(&mut self, name: &str) -> Result<Option<u32>, Status> {
        let fits = |number| u32::try_from(number).map_err(|_| wrong(format!("{name}: {number} is out of range")));
        self.whole(name)?.map(fits).transpose()
    }

    fn seed(&mut self, name: &str) -> Result<Option<u64>, Status> {
        let fits = |number| u64::try_from(number).map_err(|_| wrong(format!("{name}: {number} is out of range")));
        self.whole(name)?.map(fits).transpose()
    }

    fn real(&mut self, name: &str) -> Result<Option<f32>, Status> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::Real(number)) => Ok(Some(number as f32)),
            Some(Value::Whole(number)) => Ok(Some(number as f32)),
            Some(Value::Text(_)) => Err(wrong(format!("{name}: must be a number"))),
        }
    }
}

/// Text of a client in a message: short, and nothing that a terminal obeys.
fn shown(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn wrong(message: String) -> Status {
    Status::invalid_argument(message)
}

fn text_of(bytes: &[u8]) -> Result<Value, String> {
    String::from_utf8(bytes.to_vec()).map(Value::Text).map_err(|_| "must be UTF-8 text".to_owned())
}

/// Whether a shape is that of one value: [1], [1, 1], or none at all.
fn check_one(tensor: &InferInputTensor) -> Result<(), String> {
    if tensor.shape.iter().all(|&length| length == 1) {
        Ok(())
    } else {
        Err(format!("has shape {:?}, and one value is taken: [1]", tensor.shape))
    }
}

fn from_contents(tensor: &InferInputTensor) -> Result<Value, String> {
    check_one(tensor)?;
    let contents = tensor.contents.as_ref().ok_or("has no contents")?;
    let none = || format!("has no value of its datatype {:?}", shown(&tensor.datatype));
    match tensor.datatype.as_str() {
        "BYTES" => text_of(contents.bytes_contents.first().ok_or_else(none)?),
        "INT8" | "INT16" | "INT32" => contents.int_contents.first().map(|&v| Value::Whole(v.into())).ok_or_else(none),
        "INT64" => contents.int64_contents.first().map(|&v| Value::Whole(v.into())).ok_or_else(none),
        "UINT8" | "UINT16" | "UINT32" => {
            contents.uint_contents.first().map(|&v| Value::Whole(v.into())).ok_or_else(none)
        }
        "UINT64" => contents.uint64_contents.first().map(|&v| Value::Whole(v.into())).ok_or_else(none),
        "FP32" => contents.fp32_contents.first().map(|&v| Value::Real(v.into())).ok_or_else(none),
        "FP64" => contents.fp64_contents.first().map(|&v| Value::Real(v)).ok_or_else(none),
        _ => Err(unknown(&tensor.datatype)),
    }
}

fn from_raw(tensor: &InferInputTensor, bytes: &[u8]) -> Result<Value, String> {
    check_one(tensor)?;
    fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], String> {
        bytes.try_into().map_err(|_| format!("{} bytes came for one value of {N}", bytes.len()))
    }
    match tensor.datatype.as_str() {
        "BYTES" => {
            // The length of each element, then the element.
            let (length, rest) = bytes.split_at_checked(4).ok_or("lacks the length of its element")?;
            let length = u32::from_le_bytes(fixed(length)?) as usize;
            match rest.get(..length) {
                Some(text) if rest.len() == length => text_of(text),
                _ => Err(format!("its element has {} bytes where {length} were announced", rest.len())),
            }
        }
        "INT32" => Ok(Value::Whole(i32::from_le_bytes(fixed(bytes)?).into())),
        "INT64" => Ok(Value::Whole(i64::from_le_bytes(fixed(bytes)?).into())),
        "UINT32" => Ok(Value::Whole(u32::from_le_bytes(fixed(bytes)?).into())),
        "UINT64" => Ok(Value::Whole(u64::from_le_bytes(fixed(bytes)?).into())),
        "INT16" => Ok(Value::Whole(i16::from_le_bytes(fixed(bytes)?).into())),
        "UINT16" => Ok(Value::Whole(u16::from_le_bytes(fixed(bytes)?).into())),
        "INT8" => Ok(Value::Whole(i8::from_le_bytes(fixed(bytes)?).into())),
        "UINT8" => Ok(Value::Whole(u8::from_le_bytes(fixed(bytes)?).into())),
        "FP32" => Ok(Value::Real(f32::from_le_bytes(fixed(bytes)?).into())),
        "FP64" => Ok(Value::Real(f64::from_le_bytes(fixed(bytes)?))),
        _ => Err(unknown(&tensor.datatype)),
    }
}

fn unknown(datatype: &str) -> String {
    format!("datatype {:?} is not taken; text is BYTES, numbers are INT, UINT or FP32", shown(datatype))
}

fn from_parameter(parameter: &InferParameter) -> Option<Value> {
    match parameter.parameter_choice.as_ref()? {
        ParameterChoice::StringParam(text) => Some(Value::Text(text.clone())),
        ParameterChoice::Int64Param(number) => Some(Value::Whole((*number).into())),
        ParameterChoice::Uint64Param(number) => Some(Value::Whole((*number).into())),
        ParameterChoice::DoubleParam(number) => Some(Value::Real(*number)),
        ParameterChoice::BoolParam(_) => None,
    }
}

/// Outputs on their way: each with its raw bytes.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    pub(super) tensors: Vec<InferOutputTensor>,
    pub(super) raw: Vec<Vec<u8>>,
}

// === impl Outputs ===

impl Outputs {
    fn add(&mut self, name: &str, datatype: &str, shape: &[usize], bytes: Vec<u8>) {
        self.tensors.push(InferOutputTensor {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.iter().map(|&length| i64::try_from(length).unwrap_or(i64::MAX)).collect(),
            parameters: HashMap::new(),
            contents: None::<InferTensorContents>,
        });
        self.raw.push(bytes);
    }

    /// Grids [count, height, width].
    pub(super) fn grids(&mut self, grids: &[v1::TokenGrid]) {
        let Some(first) = grids.first() else { return };
        let bytes = grids.iter().flat_map(|grid| &grid.token_ids).flat_map(|id| id.to_le_bytes()).collect();
        let shape = [grids.len(), first.height as usize, first.width as usize];
        self.add("token_ids", "UINT32", &shape, bytes);
    }

    /// Gray pixels [count, height, width].
    pub(super) fn pixels(&mut self, pictures: &[(usize, usize, Vec<u8>)]) {
        let Some((width, height, _)) = pictures.first() else { return };
        let bytes = pictures.iter().flat_map(|(_, _, pixels)| pixels).copied().collect();
        self.add("image", "UINT8", &[pictures.len(), *height, *width], bytes);
    }

    /// Encoded files [count].
    pub(super) fn files<'a>(&mut self, name: &str, files: impl ExactSizeIterator<Item = &'a [u8]>) {
        let mut bytes = Vec::new();
        let count = files.len();
        for file in files {
            bytes.extend_from_slice(&u32::try_from(file.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend_from_slice(file);
        }
        self.add(name, "BYTES", &[count], bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, datatype: &str) -> InferInputTensor {
        InferInputTensor {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![1],
            ..InferInputTensor::default()
        }
    }

    fn raw(inputs: &[(&str, &str, &[u8])]) -> ModelInferRequest {
        ModelInferRequest {
            inputs: inputs.iter().map(|(name, datatype, _)| tensor(name, datatype)).collect(),
            raw_input_contents: inputs.iter().map(|(_, _, bytes)| bytes.to_vec()).collect(),
            ..ModelInferRequest::default()
        }
    }

    #[test]
    fn raw_tensors_become_a_request() {
        let infer = raw(&[
            ("impression", "BYTES", b"\x05\0\0\0edema"),
            ("seed", "UINT64", &u64::MAX.to_le_bytes()),
            ("step_count", "INT32", &8i32.to_le_bytes()),
            ("guidance_scale", "FP32", &1.5f32.to_le_bytes()),
        ]);
        let request = request(&infer).expect("in order");
        assert_eq!(request.impression, "edema");
        let sampling = request.sampling.expect("sampling");
        assert_eq!((sampling.seed, sampling.step_count), (Some(u64::MAX), Some(8)));
        assert_eq!(sampling.guidance_scale, Some(1.5));
    }

    #[test]
    fn what_is_wrong_is_said_by_the_tensors_name() {
        for (inputs, said) in [
            (vec![], "impression: is missing"),
            (vec![("prompt", "BYTES", &b"\0\0\0\0"[..])], "there is no input \"prompt\""),
            (vec![("impression", "BYTES", &b"\xff\xff\xff\xffx"[..])], "impression: its element has 1 bytes"),
            (vec![("impression", "BYTES", &b"\x01\0\0\0\xff"[..])], "impression: must be UTF-8"),
            (vec![("impression", "BYTES", &b""[..])], "impression: lacks the length"),
            (vec![("impression", "FP32", &[0; 4][..])], "impression: must be BYTES"),
            (
                vec![("impression", "BYTES", &b"\x01\0\0\0a"[..]), ("step_count", "INT32", &[255; 4][..])],
                "step_count: -1",
            ),
            (vec![("impression", "BYTES", &b"\x01\0\0\0a"[..]), ("seed", "UINT64", &[0; 4][..])], "seed: 4 bytes came"),
        ] {
            let status = request(&raw(&inputs)).expect_err(said);
            assert!(status.message().contains(said), "{} lacks {said}", status.message());
        }
    }
}
