//! Labels as tables write them.

use raygen_manifest::{CLASSES, Labels, NO_FINDING};

/// Labels of a field: names in any case with a separator between them. The error says what is wrong in words.
pub(super) fn parse(text: &str, separator: char) -> Result<Labels, String> {
    let mut names: Vec<String> = Vec::new();
    let mut negative = false;
    for name in text.split(separator).map(str::trim).filter(|name| !name.is_empty()) {
        if name.contains(';') {
            return Err(format!("\"{name}\" holds a semicolon, which separates labels in a manifest"));
        }
        if name.eq_ignore_ascii_case(NO_FINDING) {
            negative = true;
            continue;
        }
        let class = CLASSES.iter().find(|class| class.eq_ignore_ascii_case(name)).copied();
        let name = class.unwrap_or(name).to_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    match names.iter().find(|name| CLASSES.contains(&name.as_str())) {
        Some(class) if negative => Err(format!("\"{NO_FINDING}\" and \"{class}\" contradict each other")),
        // A device beside "No Finding" is no finding.
        _ if negative => Ok(Labels::Negative),
        _ if names.is_empty() => Ok(Labels::Unlabelled),
        _ => Ok(Labels::Positive(names)),
    }
}
