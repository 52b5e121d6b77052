//! `raygen decode`: a token file into a picture.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{
    Session,
    failure::Failure,
    files::{check_target, picture_format, write_whole},
    token_file::read_tokens,
};

/// Arguments of `raygen decode`.
#[derive(Debug, Args)]
pub(crate) struct DecodeArguments {
    /// A token file, as `generate --tokens` and `encode` write it.
    tokens: PathBuf,
    /// Where to write the picture: .png, .jpg or .dcm.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// models/{model} or models/{model}/versions/{version}; the server's default unless given.
    #[arg(long, default_value = "", hide_default_value = true)]
    model: String,
}

/// Runs the command.
pub(crate) async fn run(session: &Session, arguments: DecodeArguments) -> Result<(), Failure> {
    let format = picture_format(&arguments.out)?;
    check_target(&arguments.out)?;
    let grid = read_tokens(&arguments.tokens)?;
    let image = session.connect().await?.decode(&arguments.model, grid, format).await?;
    write_whole(&arguments.out, &image.data)?;
    session.output.result(
        || format!("{} ({} x {})\nsynthetic, not for diagnosis", arguments.out.display(), image.width, image.height),
        || json!({"event": "picture", "out": arguments.out, "width": image.width, "height": image.height}),
    );
    Ok(())
}
