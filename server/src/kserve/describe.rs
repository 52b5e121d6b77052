//! What models look like to a client of the KServe protocol.

use raygen_proto::inference::model_metadata_response::TensorMetadata;
use raygen_proto::inference::{
    DataType, ModelConfig, ModelInput, ModelMetadataResponse, ModelOutput, ModelTransactionPolicy,
};

use super::tensors::INPUTS;
use crate::engine::ModelInfo;

/// The platform's and the backend's name.
const PLATFORM: &str = "raygen";

/// Name, datatype and shape of each output; `None` is as many as samples were asked for.
fn outputs(info: &ModelInfo) -> [(&'static str, &'static str, Vec<i64>); 3] {
    let side = i64::from(info.image_size);
    [
        ("image", "UINT8", vec![-1, side, side]),
        ("png", "BYTES", vec![-1]),
        ("token_ids", "UINT32", vec![-1, i64::from(info.grid_height), i64::from(info.grid_width)]),
    ]
}

/// `models/{model}/versions/{version}` in its two parts.
pub(super) fn parts(name: &str) -> (&str, &str) {
    let name = name.strip_prefix("models/").unwrap_or(name);
    name.split_once("/versions/").unwrap_or((name, ""))
}

pub(super) fn metadata(name: &str, info: &ModelInfo) -> ModelMetadataResponse {
    let (model, version) = parts(name);
    let tensor = |name: &str, datatype: &str, shape: Vec<i64>| TensorMetadata {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape,
    };
    ModelMetadataResponse {
        name: model.to_owned(),
        versions: vec![version.to_owned()],
        platform: PLATFORM.to_owned(),
        inputs: INPUTS.iter().map(|(name, datatype)| tensor(name, datatype, vec![1])).collect(),
        outputs: outputs(info).into_iter().map(|(name, datatype, shape)| tensor(name, datatype, shape)).collect(),
    }
}

pub(super) fn config(name: &str, info: &ModelInfo) -> ModelConfig {
    ModelConfig {
        name: parts(name).0.to_owned(),
        platform: PLATFORM.to_owned(),
        backend: PLATFORM.to_owned(),
        // Requests are batched between steps, by the engine: a request is one row or a few, never a batch of the client's.
        max_batch_size: 0,
        input: INPUTS
            .iter()
            .map(|(name, datatype)| ModelInput {
                name: (*name).to_owned(),
                data_type: data_type(datatype).into(),
                dims: vec![1],
                optional: *name != "impression",
            })
            .collect(),
        output: outputs(info)
            .into_iter()
            .map(|(name, datatype, dims)| ModelOutput {
                name: name.to_owned(),
                data_type: data_type(datatype).into(),
                dims,
            })
            .collect(),
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: false }),
    }
}

fn data_type(datatype: &str) -> DataType {
    match datatype {
        "BYTES" => DataType::TypeString,
        "UINT8" => DataType::TypeUint8,
        "UINT32" => DataType::TypeUint32,
        "UINT64" => DataType::TypeUint64,
        "FP32" => DataType::TypeFp32,
        _ => DataType::TypeInvalid,
    }
}
