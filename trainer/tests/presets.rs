//! Every configuration in `configs/` is one that runs, the presets differ only where they say so, and keys that came later
//! change no fingerprint of a run that was before them.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use raygen_model::sampler::SamplingParams;
use raygen_model::transformer::{Activation, TextNorm, TransformerConfig};
use raygen_model::vqgan::VqGanConfig;
use raygen_trainer::config::{MaskCount, PlateauMasks, RunConfig, TextCleaning};
use raygen_trainer::stages::tokenizer::network_config;
use raygen_trainer::stages::transformer::Shapes;
use toml::{Table, Value};

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

fn read(name: &str) -> RunConfig {
    RunConfig::read(&configs().join(name)).unwrap()
}

fn table(name: &str) -> Table {
    std::fs::read_to_string(configs().join(name)).unwrap().parse().unwrap()
}

/// Dotted keys whose values differ.
fn differences(a: &Value, b: &Value, key: &str, found: &mut Vec<String>) {
    match (a, b) {
        (Value::Table(a), Value::Table(b)) => {
            for name in a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))) {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                match (a.get(name), b.get(name)) {
                    (Some(a), Some(b)) => differences(a, b, &key, found),
                    _ => found.push(key),
                }
            }
        }
        (a, b) if a == b => {}
        _ => found.push(key.to_owned()),
    }
}

#[test]
fn every_configuration_is_valid() {
    let mut count = 0;
    for entry in std::fs::read_dir(configs()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            RunConfig::read(&path).unwrap_or_else(|error| panic!("{error}"));
            count += 1;
        }
    }
    assert!(count >= 4, "only {count} configurations");
}

#[test]
fn the_paper_preset_differs_from_the_published_one_only_where_it_says_so() {
    let (published, paper) = (Value::Table(table("published.toml")), Value::Table(table("paper-words.toml")));
    let mut found = Vec::new();
    differences(&published, &paper, "", &mut found);
    found.sort();
    let said = ["name", "transformer.mask_count", "transformer.model.quirks.activation", "transformer.text.cleaning"];
    assert_eq!(found, said);
    let header = std::fs::read_to_string(configs().join("paper-words.toml")).unwrap();
    for key in said {
        assert!(header.lines().any(|line| line.starts_with(&format!("#   {key}"))), "the header does not name {key}");
    }
    let paper = read("paper-words.toml").transformer;
    assert_eq!((paper.mask_count, paper.text.cleaning), (MaskCount::Ceil, TextCleaning::None));
    assert_eq!(paper.model.quirks.unwrap().activation, Activation::Gelu);
}

#[test]
fn the_published_preset_is_the_published_model_and_its_training() {
    let config = read("published.toml");
    let shapes = Shapes::new(&config, &network_config(&config), 30_522);
    let TransformerConfig::Published(model) = &shapes.transformer else { panic!("{:?}", shapes.transformer) };
    assert_eq!((model.codebook_size, model.positions, model.width, model.layers), (1024, 1024, 1024, 6));
    assert_eq!((model.heads, model.feed_forward, model.text_width, model.max_text_tokens), (8, 4096, 768, 256));
    assert_eq!((model.text_norm, model.pad_mask, model.activation), (TextNorm::TokenAxis, false, Activation::Geglu));
    assert!(model.unused_attention_norms && shapes.transformer.pads_text_to_maximum());
    assert_eq!((shapes.text_encoder.hidden_size, shapes.text_encoder.num_hidden_layers), (768, 12));

    let (training, optimiser) = (&config.transformer, &config.transformer.optimiser);
    assert_eq!((training.batch, training.attention_dropout, training.condition_dropout), (16, 0.1, 0.0));
    assert_eq!((training.label_smoothing, training.code_smoothing), (0.0, 0.0));
    assert_eq!((training.mask_count, training.text.cleaning), (MaskCount::Round, TextCleaning::Letters));
    assert!(training.text.frozen && !training.start_from_codebook);
    assert_eq!((optimiser.learning_rate, optimiser.beta1, optimiser.beta2), (1e-5, 0.9, 0.999));
    assert_eq!((optimiser.weight_decay, optimiser.ema_decay, optimiser.warm_up_steps), (0.0, 0.0, 0));
    assert_eq!(optimiser.clip_norm, f64::INFINITY);
    let plateau = optimiser.plateau.unwrap();
    assert_eq!((plateau.factor, plateau.patience, plateau.min_learning_rate), (0.5, 4, 1e-8));
    assert_eq!((plateau.threshold, plateau.cooldown, plateau.smallest_change), (1e-4, 0, 1e-8));
    assert_eq!(plateau.masks, PlateauMasks::Fresh);
    assert_eq!(config.export.sampling, SamplingParams::published());

    // The file of UniXGen's tokenizer, as its project file says.
    let tokenizer: VqGanConfig = network_config(&config);
    assert_eq!((tokenizer.in_channels, tokenizer.out_channels, tokenizer.resolution), (3, 3, 512));
    assert_eq!(tokenizer.attention_resolutions, [24]);
}

#[test]
fn keys_that_came_later_are_not_written_where_a_run_does_not_use_them() {
    for name in ["quickstart.toml", "nih-128.toml"] {
        let written: Table = toml::to_string(&read(name)).unwrap().parse().unwrap();
        let keys = |path: &[&str]| -> Vec<String> {
            let mut table = &written;
            for key in path {
                table = table[*key].as_table().unwrap();
            }
            let mut keys: Vec<String> = table.keys().cloned().collect();
            keys.sort();
            keys
        };
        // As they were when the first models were trained: a run's fingerprint is over the text of these.
        assert_eq!(
            keys(&["transformer"]),
            [
                "batch",
                "cadence",
                "code_smoothing",
                "condition_dropout",
                "label_smoothing",
                "model",
                "optimiser",
                "start_from_codebook",
                "steps",
                "text"
            ]
        );
        assert_eq!(
            keys(&["transformer", "model"]),
            ["feed_forward", "heads", "layers", "local_blocks", "token_merge", "width"]
        );
        assert_eq!(keys(&["transformer", "text"]), ["heads", "layers", "max_tokens", "width"]);
        for stage in ["tokenizer", "transformer"] {
            assert_eq!(
                keys(&[stage, "optimiser"]),
                [
                    "beta1",
                    "beta2",
                    "clip_norm",
                    "ema_decay",
                    "final_ratio",
                    "learning_rate",
                    "warm_up_steps",
                    "weight_decay"
                ]
            );
        }
        assert_eq!(
            keys(&["tokenizer", "model"]),
            [
                "channel_multipliers",
                "channels",
                "codebook_size",
                "embed_dim",
                "norm_groups",
                "residual_blocks",
                "z_channels"
            ]
        );
    }
}
