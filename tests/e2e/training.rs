//! From films to a picture of one's own model: the real `raygen-trainer`, its bundle in the real server, the real `raygen`.

use std::{fs, path::Path};

use raygen_e2e::{Server, TestResult, raygen, trainer};

use crate::pictures::decode;

/// Side of the films, in pixels.
const SIDE: u32 = 16;

/// A run of a few steps, with the smallest networks that there are.
const RUN: &str = r#"
name = "tiny"
seed = 5
[data]
manifest = "manifest.csv"
image_size = 16
[tokenizer]
steps = 3
batch = 3
shift = 1
optimiser = { learning_rate = 1e-3, warm_up_steps = 2, ema_decay = 0.9 }
cadence = { validate_every = 3, checkpoint_every = 2 }
model = { channels = 8, channel_multipliers = [1, 2], residual_blocks = 1, z_channels = 8, embed_dim = 8, codebook_size = 16, norm_groups = 4 }
[encode]
views = 2
shift = 1
[transformer]
steps = 3
batch = 3
optimiser = { learning_rate = 1e-3, warm_up_steps = 2, weight_decay = 0.01, ema_decay = 0.9 }
cadence = { validate_every = 3, checkpoint_every = 2 }
model = { width = 16, layers = 1, heads = 2, feed_forward = 16, token_merge = 2 }
text = { width = 8, layers = 1, heads = 2, max_tokens = 8 }
[export]
dtype = "f32"
licence = ""
supported_terms = []
notes = ""
[export.sampling]
step_count = 2
"#;

/// Eight films with stripes of different widths, two of them for validation.
fn write_films(folder: &Path) -> TestResult {
    let mut manifest = "path,split,patient,impression,labels\n".to_owned();
    for film in 0..8 {
        let stripes =
            image::GrayImage::from_fn(SIDE, SIDE, |x, _| image::Luma([if x / (film + 1) % 2 == 0 { 40 } else { 200 }]));
        stripes.save(folder.join(format!("film-{film}.png")))?;
        let split = if film < 6 { "train" } else { "val" };
        let (impression, label) = if film % 2 == 0 { ("Stripes.", "Edema") } else { ("No finding.", "No Finding") };
        manifest.push_str(&format!("film-{film}.png,{split},p{film},{impression},{label}\n"));
    }
    Ok(fs::write(folder.join("manifest.csv"), manifest)?)
}

#[test]
fn a_model_trained_on_ones_own_films_is_served_and_generates() -> TestResult {
    let folder = tempfile::tempdir()?;
    let here = folder.path();
    write_films(here)?;
    fs::write(here.join("run.toml"), RUN)?;
    let ran = trainer(here, ["run", "run.toml", "--out", "run", "--device", "cpu"])?;
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);

    let bundle = here.join("run/bundle").to_string_lossy().into_owned();
    let server = Server::start(["--device", "cpu", "--models", &bundle])?;
    let endpoint = server.endpoint();
    let ran = raygen(here, ["generate", "Stripes and zebras", "--out", "film.png", "--endpoint", &endpoint])?;
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("zebras") && !ran.err.to_lowercase().contains("stripes"), "{}", ran.err);
    let picture = decode(&fs::read(here.join("film.png"))?)?;
    assert_eq!((picture.width, picture.height), (SIDE as usize, SIDE as usize));
    Ok(())
}
