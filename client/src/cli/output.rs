//! What is written to standard output and standard error.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use raygen_client::ClientError;
use serde_json::{Value, json};

use super::failure::Failure;

/// Results on standard output, as words or as JSON lines; notes and warnings on standard error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether results go out as JSON lines.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// A result: words for a person, or one line of JSON. Only the one that is wanted is made.
    pub(crate) fn result(self, words: impl FnOnce() -> String, value: impl FnOnce() -> Value) {
        let line = if self.json { value().to_string() } else { words() };
        write_line(&mut io::stdout().lock(), &line);
    }

    /// One line of JSON, where that is wanted.
    pub(crate) fn event(self, value: impl FnOnce() -> Value) {
        if self.json {
            write_line(&mut io::stdout().lock(), &value().to_string());
        }
    }

    /// A note for a person.
    pub(crate) fn note(self, words: &str) {
        if !self.json {
            write_line(&mut io::stderr().lock(), &printable(words));
        }
    }

    /// A warning; also where the output is JSON, because a person should see it in a log.
    pub(crate) fn warning(self, words: &str) {
        write_line(&mut io::stderr().lock(), &format!("warning: {}", printable(words)));
    }

    /// Says why the command failed, and gives its exit code.
    pub(crate) fn failure(self, failure: &Failure) -> ExitCode {
        let message = failure.message();
        self.event(|| json!({"error": error_value(failure, &message)}));
        for line in message.lines() {
            write_line(&mut io::stderr().lock(), &printable(line));
        }
        ExitCode::from(failure.exit_code())
    }
}

fn error_value(failure: &Failure, message: &str) -> Value {
    let mut value = json!({"exit_code": failure.exit_code(), "message": message});
    if let Failure::Client(ClientError::Refused(refusal)) = failure {
        let violations = refusal.violations.iter().map(|v| json!({"field": v.field, "description": v.description}));
        value["code"] = refusal.code_name().into();
        value["reason"] = refusal.reason.clone().into();
        value["field_violations"] = violations.collect();
        value["retry_after_seconds"] = refusal.retry_after.map(|delay| delay.as_secs_f64()).into();
    }
    value
}

/// A reader that went away (`raygen ... | head`) is no reason to fail.
fn write_line(target: &mut impl Write, line: &str) {
    let _ = writeln!(target, "{line}").and_then(|()| target.flush());
}

/// Text from elsewhere without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn escape_sequences_in_a_servers_words_do_not_reach_the_terminal() {
        assert_eq!(printable("red \u{1b}[31m\r\n"), "red \u{fffd}[31m\u{fffd}\u{fffd}");
    }
}
