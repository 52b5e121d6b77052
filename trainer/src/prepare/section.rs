//! The sections of a radiology report: a name at the start of a line, a colon, and text up to the next one.

/// The last section of this name that has text, its line breaks made blanks; `None` where there is none.
///
/// Names stand in capitals at the start of a line. `IMPRESSION` and `FINDINGS` are known in any case, and in the joint
/// section "FINDINGS AND IMPRESSION" that some reports have.
pub(super) fn section(report: &str, wanted: &str) -> Option<String> {
    let mut found = None;
    let mut open: Option<Vec<&str>> = None;
    for line in report.lines() {
        let (head, rest) = header(line).map_or((None, line), |(head, rest)| (Some(head), rest));
        if let Some(head) = head {
            found = text_of(open.take()).or(found);
            open = names(head, wanted).then(Vec::new);
        }
        if let Some(words) = &mut open {
            words.extend(rest.split_whitespace());
        }
    }
    text_of(open).or(found)
}

/// What the published code takes: all that follows the last "IMPRESSION:", line breaks and all.
pub(super) fn after_last_impression(report: &str) -> Option<&str> {
    report.rsplit_once("IMPRESSION:").map(|(_, text)| text)
}

fn text_of(words: Option<Vec<&str>>) -> Option<String> {
    // De-identified reports fill blanks with underscores; a section of nothing else says nothing.
    let words = words?;
    words.iter().any(|word| word.chars().any(char::is_alphanumeric)).then(|| words.join(" "))
}

/// The name of the section that a line opens, and what follows on the line.
fn header(line: &str) -> Option<(&str, &str)> {
    let (head, rest) = line.split_once(':')?;
    let head = head.trim();
    let known = ["impression", "findings", "conclusion"].iter().any(|name| head.eq_ignore_ascii_case(name));
    let letters = head.chars().filter(|character| character.is_ascii_alphabetic()).count();
    let capitals = head.chars().all(|character| character.is_ascii_uppercase() || " /(),-&".contains(character));
    // Shorter ones are words of a sentence: "AP: unchanged".
    (known || capitals && letters >= 4).then_some((head, rest))
}

fn names(head: &str, wanted: &str) -> bool {
    let mut words = head.split(|character: char| !character.is_ascii_alphabetic());
    let synonym = if wanted == "IMPRESSION" { "CONCLUSION" } else { wanted };
    words.any(|word| word.eq_ignore_ascii_case(wanted) || word.eq_ignore_ascii_case(synonym))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "                                 FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n\n \
        INDICATION:  Cough.\n\n FINDINGS: \n \n The lungs are clear: no\n effusion.\n\n IMPRESSION: \n \n \
        1. No acute\n disease.\n\n RECOMMENDATION(S):  None.\n";

    #[test]
    fn a_section_ends_where_the_next_begins() {
        assert_eq!(section(REPORT, "IMPRESSION").as_deref(), Some("1. No acute disease."));
        assert_eq!(section(REPORT, "FINDINGS").as_deref(), Some("The lungs are clear: no effusion."));
        assert_eq!(section("INDICATION: Cough.", "IMPRESSION"), None);
    }

    #[test]
    fn the_last_impression_that_says_anything_counts() {
        assert_eq!(section("IMPRESSION: A.\nIMPRESSION: B.\nIMPRESSION: ___\n", "IMPRESSION").as_deref(), Some("B."));
        assert_eq!(section("Impression: a\n", "IMPRESSION").as_deref(), Some("a"));
        let joint = section("FINDINGS AND IMPRESSION: Clear.\n", "IMPRESSION");
        assert_eq!(joint.as_deref(), Some("Clear."));
    }

    #[test]
    fn the_published_code_takes_everything_behind_the_last_colon_of_the_word() {
        assert_eq!(after_last_impression("IMPRESSION: a\nIMPRESSION: b\nNOTE: c"), Some(" b\nNOTE: c"));
        assert_eq!(after_last_impression("Impression: a"), None);
    }
}
