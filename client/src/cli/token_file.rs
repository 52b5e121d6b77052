//! Token files: a grid as JSON, `{"height":H,"width":W,"mask_token_id":M,"token_ids":[...]}`.

use std::path::Path;

use raygen_client::wire::TokenGrid;
use serde::{Deserialize, Serialize};

use super::{
    failure::Failure,
    files::{read, write_whole},
};

/// A grid, as it is written in a file and in JSON lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenFile {
    height: u32,
    width: u32,
    mask_token_id: u32,
    token_ids: Vec<u32>,
}

impl From<&TokenGrid> for TokenFile {
    fn from(grid: &TokenGrid) -> Self {
        let token_ids = grid.token_ids.clone();
        Self { height: grid.height, width: grid.width, mask_token_id: grid.mask_token_id, token_ids }
    }
}

impl From<TokenFile> for TokenGrid {
    fn from(file: TokenFile) -> Self {
        Self { height: file.height, width: file.width, mask_token_id: file.mask_token_id, token_ids: file.token_ids }
    }
}

impl TokenFile {
    /// The file's only line, without its end.
    pub(crate) fn to_line(&self) -> String {
        let Self { height, width, mask_token_id, token_ids } = self;
        let ids: Vec<String> = token_ids.iter().map(u32::to_string).collect();
        let ids = ids.join(",");
        format!(r#"{{"height":{height},"width":{width},"mask_token_id":{mask_token_id},"token_ids":[{ids}]}}"#)
    }
}

/// Writes a grid.
pub(crate) fn write_tokens(path: &Path, grid: &TokenGrid) -> Result<(), Failure> {
    write_whole(path, format!("{}\n", TokenFile::from(grid).to_line()).as_bytes())
}

/// Reads a grid. Whether it fits the model is the server's to say.
pub(crate) fn read_tokens(path: &Path) -> Result<TokenGrid, Failure> {
    let file: TokenFile = serde_json::from_slice(&read(path)?).map_err(|error| {
        let form = r#"{"height":H,"width":W,"mask_token_id":M,"token_ids":[...]}"#;
        Failure::Usage(format!("{}: is no token file, {form}: {error}", path.display()))
    })?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_survives_its_file_and_the_names_are_the_contracts() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("tokens.json");
        let grid = TokenGrid { height: 1, width: 3, token_ids: vec![5, 0, 64], mask_token_id: 64 };
        assert!(write_tokens(&path, &grid).is_ok());
        let text = std::fs::read_to_string(&path)?;
        assert_eq!(text, "{\"height\":1,\"width\":3,\"mask_token_id\":64,\"token_ids\":[5,0,64]}\n");
        assert_eq!(read_tokens(&path).ok(), Some(grid));
        Ok(())
    }

    #[test]
    fn what_is_no_token_file_is_refused_with_its_form() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("tokens.json");
        std::fs::write(&path, "{\"height\":1}")?;
        let failure = read_tokens(&path).err().ok_or("accepted")?;
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.message().contains("missing field `width`"), "{}", failure.message());
        Ok(())
    }
}
