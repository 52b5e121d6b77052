//! `raygen encode`: a picture into its token grid, or an impression into its embedding.

use std::path::{Path, PathBuf};

use clap::Args;
use raygen_client::{
    Client,
    wire::{ImageFormat, TokenGrid},
};
use serde_json::json;

use super::{
    Session,
    failure::Failure,
    files::{check_target, picture_format, read_picture, write_whole},
    output::printable,
    token_file::{TokenFile, write_tokens},
};

/// Arguments of `raygen encode`.
#[derive(Debug, Args)]
pub(crate) struct EncodeArguments {
    /// The picture to encode: PNG, JPEG or DICOM.
    #[arg(required_unless_present = "text", conflicts_with = "text", value_name = "IMAGE")]
    image: Option<PathBuf>,
    /// Embed this impression instead of a picture.
    #[arg(long, value_name = "IMPRESSION", conflicts_with_all = ["tokens", "reconstruction"])]
    text: Option<String>,
    /// Write the token grid here (JSON) instead of to standard output.
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Also write what the grid decodes to: .png, .jpg or .dcm.
    #[arg(long, value_name = "FILE")]
    reconstruction: Option<PathBuf>,
    /// models/{model} or models/{model}/versions/{version}; the server's default unless given.
    #[arg(long, default_value = "", hide_default_value = true)]
    model: String,
}

/// Runs the command.
pub(crate) async fn run(session: &Session, arguments: EncodeArguments) -> Result<(), Failure> {
    match (&arguments.image, &arguments.text) {
        (Some(image), _) => encode_picture(session, &arguments, image).await,
        (None, Some(text)) => embed(session, &arguments.model, text).await,
        (None, None) => Err(Failure::Usage("name a picture, or give an impression with --text".to_owned())),
    }
}

async fn encode_picture(session: &Session, arguments: &EncodeArguments, path: &Path) -> Result<(), Failure> {
    let format = arguments.reconstruction.as_deref().map(picture_format).transpose()?;
    arguments.tokens.iter().chain(&arguments.reconstruction).try_for_each(|path| check_target(path))?;
    let image = read_picture(path)?;
    let client = session.connect().await?;
    let encoded = client.encode(&arguments.model, image, format == Some(ImageFormat::Png)).await?;
    if let Some(path) = &arguments.tokens {
        write_tokens(path, &encoded.grid)?;
    }
    if let (Some(path), Some(format)) = (&arguments.reconstruction, format) {
        let data = match encoded.reconstruction {
            Some(image) => image.data,
            // Reconstructions come as PNG; any other format is the grid decoded anew.
            None => decode(&client, arguments, &encoded.grid, format).await?,
        };
        write_whole(path, &data)?;
    }
    let tokens = TokenFile::from(&encoded.grid);
    match &arguments.tokens {
        None => session.output.result(|| tokens.to_line(), || json!({"event": "grid", "grid": tokens})),
        Some(path) => session.output.result(
            || format!("{} ({} x {} tokens)", path.display(), encoded.grid.height, encoded.grid.width),
            || json!({"event": "grid", "grid": tokens, "tokens": path}),
        ),
    }
    if let Some(path) = &arguments.reconstruction {
        session.output.note(&format!("{}: what the grid decodes to; synthetic, not for diagnosis", path.display()));
        session.output.event(|| json!({"event": "reconstruction", "out": path}));
    }
    Ok(())
}

async fn decode(
    client: &Client,
    arguments: &EncodeArguments,
    grid: &TokenGrid,
    format: ImageFormat,
) -> Result<Vec<u8>, Failure> {
    Ok(client.decode(&arguments.model, grid.clone(), format).await?.data)
}

async fn embed(session: &Session, model: &str, text: &str) -> Result<(), Failure> {
    let embedding = session.connect().await?.embed(model, text).await?;
    session.output.result(
        || {
            let tokens: Vec<String> = embedding.tokens.iter().map(|token| printable(token)).collect();
            format!("{} tokens of {} features: {}", embedding.token_count, embedding.width, tokens.join(" "))
        },
        || {
            json!({
                "event": "embedding", "token_count": embedding.token_count, "width": embedding.width,
                "tokens": embedding.tokens, "values": embedding.values,
            })
        },
    );
    Ok(())
}
