//! How a command can fail, and the exit code of each way.

use raygen_client::ClientError;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line asks for something that makes no sense, or names a file that is not there.
    Usage(String),
    /// The server refused, or cannot be reached.
    Client(ClientError),
    /// Something on this machine: a file that cannot be written.
    Local(String),
    /// A gate failed; which checks is already said.
    GateFailed,
    /// A gate could not be judged.
    NotJudged(String),
    /// Ctrl-C.
    Interrupted,
}

impl Failure {
    /// The exit code that scripts rely on.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Local(_) | Self::GateFailed => 1,
            Self::Usage(_) | Self::NotJudged(_) | Self::Client(ClientError::BadEndpoint { .. }) => 2,
            Self::Client(ClientError::Refused(_)) => 3,
            Self::Client(ClientError::Unreachable { .. } | ClientError::Incomplete(_)) => 4,
            Self::Interrupted => 130,
        }
    }

    /// In words for a person: what is wrong, and what to do.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Usage(message) | Self::Local(message) => format!("error: {message}"),
            Self::Client(ClientError::Refused(refusal)) => format!("refused: {refusal}"),
            Self::Client(error @ ClientError::Unreachable { .. }) => {
                format!(
                    "{error}\nIs raygen-server running there? Start one, or name another with --endpoint or RAYGEN_ENDPOINT."
                )
            }
            Self::Client(error) => format!("error: {error}"),
            Self::GateFailed => "the gate failed".to_owned(),
            Self::NotJudged(message) => format!("could not be judged: {message}"),
            Self::Interrupted => "interrupted".to_owned(),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}
