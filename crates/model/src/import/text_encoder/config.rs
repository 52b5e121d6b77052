//! `config.json` of a BERT, and what it may ask for that no BERT of ours computes.

use std::path::Path;

use serde_json::Value;

use super::{ImportError, small_file};
use crate::text_encoder::TextEncoderConfig;

/// Model types whose encoder is a plain BERT.
const MODEL_TYPES: [&str; 2] = ["bert", "cxr-bert"];

/// Reads and checks a configuration.
pub(super) fn read(path: &Path) -> Result<TextEncoderConfig, ImportError> {
    let wrong = |problem: String| ImportError::unreadable(path, format!("is not a BERT configuration: {problem}"));
    let json: Value = serde_json::from_str(&small_file::read(path)?).map_err(|error| wrong(error.to_string()))?;
    check_kind(&json).map_err(|(field, problem)| ImportError::field(path, field, problem))?;
    let config: TextEncoderConfig = serde_json::from_value(json).map_err(|error| wrong(error.to_string()))?;
    config.validate().map_err(|source| ImportError::config(path, source))?;
    Ok(config)
}

/// Gives the field that makes this another network than an encoding BERT, and what is wrong with it.
fn check_kind(json: &Value) -> Result<(), (&'static str, String)> {
    let expected = MODEL_TYPES.join(" or ");
    match json.get("model_type").and_then(Value::as_str) {
        Some(model_type) if MODEL_TYPES.contains(&model_type) => {}
        Some(other) => return Err(("model_type", format!("`{other}` is not supported; expected {expected}"))),
        // Configurations of 2019 have no type; their class tells it.
        None => {
            let class = json.pointer("/architectures/0").and_then(Value::as_str);
            if let Some(other) = class.filter(|class| !class.starts_with("Bert") && !class.starts_with("CXRBert")) {
                return Err((
                    "architectures",
                    format!("`{other}` is not supported; expected a model of type {expected}"),
                ));
            }
        }
    }
    for field in ["is_decoder", "add_cross_attention"] {
        if json.get(field).and_then(Value::as_bool) == Some(true) {
            return Err((field, "true makes a decoder; expected an encoder (false)".to_owned()));
        }
    }
    if let Some(pruned) = json.get("pruned_heads").and_then(Value::as_object).filter(|pruned| !pruned.is_empty()) {
        let layers: Vec<&str> = pruned.keys().map(String::as_str).collect();
        let problem = format!("heads are pruned in layers {}; expected none", layers.join(", "));
        return Err(("pruned_heads", problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(config: &Value) -> Option<&'static str> {
        check_kind(config).err().map(|(field, _)| field)
    }

    #[test]
    fn only_encoding_berts_are_of_the_right_kind() {
        for fine in [
            json!({"model_type": "bert", "pruned_heads": {}, "is_decoder": false}),
            json!({"model_type": "cxr-bert", "architectures": ["CXRBertModel"]}),
            json!({"architectures": ["BertForMaskedLM"]}),
            json!({}),
        ] {
            assert_eq!(refused(&fine), None, "{fine}");
        }
        assert_eq!(refused(&json!({"model_type": "roberta"})), Some("model_type"));
        assert_eq!(refused(&json!({"architectures": ["RobertaModel"]})), Some("architectures"));
        assert_eq!(refused(&json!({"model_type": "bert", "is_decoder": true})), Some("is_decoder"));
        assert_eq!(refused(&json!({"model_type": "bert", "pruned_heads": {"1": [0]}})), Some("pruned_heads"));
    }
}
