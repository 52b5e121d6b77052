//! Encode and Decode: pictures to grids and back, impressions to embeddings.

use raygen_proto::v1::{
    DecodeRequest, EncodeRequest, EncodeResponse, Image, ImageFormat, TokenGrid, encode_request,
    encode_response::{Embedding, Event},
};
use tonic::Streaming;

use crate::{Client, ClientError};

/// A picture as the model sees it.
#[derive(Debug, Clone)]
pub struct EncodedImage {
    /// Its grid.
    pub grid: TokenGrid,
    /// What the grid decodes to, if asked for.
    pub reconstruction: Option<Image>,
}

impl Client {
    /// Encodes a picture into its grid, and if asked, decodes that again. An empty `model` takes the server's default.
    ///
    /// # Errors
    /// The server's refusal (`IMAGE_INVALID`, `IMAGE_TOO_LARGE`, ...), or that it cannot be reached.
    pub async fn encode(
        &self,
        model: impl Into<String>,
        image: Image,
        include_reconstruction: bool,
    ) -> Result<EncodedImage, ClientError> {
        let input = Some(encode_request::Input::Image(image));
        let mut stream =
            self.start_encode(EncodeRequest { model: model.into(), input, include_reconstruction }).await?;
        let (mut grid, mut reconstruction) = (None, None);
        while let Some(message) = stream.message().await.map_err(|status| self.error(&status))? {
            match message.event {
                Some(Event::Grid(event)) => grid = Some(event),
                Some(Event::Reconstruction(event)) => reconstruction = Some(event),
                Some(Event::Embedding(_)) | None => {}
            }
        }
        if include_reconstruction && reconstruction.is_none() {
            return Err(ClientError::Incomplete("the encoding ended without its reconstruction"));
        }
        let grid = grid.ok_or(ClientError::Incomplete("the encoding ended without its grid"))?;
        Ok(EncodedImage { grid, reconstruction })
    }

    /// Embeds an impression as the transformer sees it. An empty `model` takes the server's default.
    ///
    /// # Errors
    /// The server's refusal (`IMPRESSION_BLANK`, ...), or that it cannot be reached.
    pub async fn embed(
        &self,
        model: impl Into<String>,
        impression: impl Into<String>,
    ) -> Result<Embedding, ClientError> {
        let input = Some(encode_request::Input::Impression(impression.into()));
        let request = EncodeRequest { model: model.into(), input, include_reconstruction: false };
        let mut stream = self.start_encode(request).await?;
        while let Some(message) = stream.message().await.map_err(|status| self.error(&status))? {
            if let Some(Event::Embedding(embedding)) = message.event {
                return Ok(embedding);
            }
        }
        Err(ClientError::Incomplete("the encoding ended without its embedding"))
    }

    /// Decodes a grid into a picture. An empty `model` takes the server's default.
    ///
    /// # Errors
    /// The server's refusal (`GRID_INVALID`, ...), or that it cannot be reached.
    pub async fn decode(
        &self,
        model: impl Into<String>,
        grid: TokenGrid,
        format: ImageFormat,
    ) -> Result<Image, ClientError> {
        let request = DecodeRequest { model: model.into(), grid: Some(grid), image_format: format.into() };
        let response = self.raygen.clone().decode(request).await.map_err(|status| self.error(&status))?;
        response.into_inner().image.ok_or(ClientError::Incomplete("Decode sent no picture"))
    }

    async fn start_encode(&self, request: EncodeRequest) -> Result<Streaming<EncodeResponse>, ClientError> {
        let response = self.raygen.clone().encode(request).await.map_err(|status| self.error(&status))?;
        Ok(response.into_inner())
    }
}
