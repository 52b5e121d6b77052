//! Open-i's MeSH terms as classes.
//!
//! Terms are matched by their head, before the first slash: "Opacity/lung/base/left" is `Opacity`. Indexers coded what the
//! report says is there, so that a report with a class is negative for the others. Where none of a report's terms is a
//! class and it is not `normal`, it is left unlabelled: some terms (density, granuloma, congestion) may or may not be one.

use raygen_manifest::{CLASSES, Labels};

/// Heads that clearly are a class. A fracture counts whether it is new or healed. Pneumonia, oedema and atelectasis are not
/// counted as opacities too, because the indexers give those a term of their own; a consolidation is one by definition.
const HEADS: [(&str, &[&str]); 17] = [
    ("Pulmonary Atelectasis", &["Atelectasis"]),
    ("Atelectasis", &["Atelectasis"]),
    ("Cardiomegaly", &["Cardiomegaly"]),
    ("Consolidation", &["Consolidation", "Lung Opacity"]),
    ("Pulmonary Edema", &["Edema"]),
    ("Fractures, Bone", &["Fracture"]),
    ("Nodule", &["Lung Lesion"]),
    ("Mass", &["Lung Lesion"]),
    ("Opacity", &["Lung Opacity"]),
    ("Infiltrate", &["Lung Opacity"]),
    ("Airspace Disease", &["Lung Opacity"]),
    ("Pleural Effusion", &["Pleural Effusion"]),
    ("Hemothorax", &["Pleural Effusion"]),
    ("Hydropneumothorax", &["Pleural Effusion", "Pneumothorax"]),
    ("Hemopneumothorax", &["Pleural Effusion", "Pneumothorax"]),
    ("Pneumonia", &["Pneumonia"]),
    ("Pneumothorax", &["Pneumothorax"]),
];

/// The labels of a report with these terms.
pub(super) fn labels(terms: &[String]) -> Labels {
    let heads = || terms.iter().map(|term| term.split('/').next().unwrap_or_default().trim());
    let found: Vec<&str> = heads()
        .filter_map(|head| HEADS.iter().find(|(known, _)| known.eq_ignore_ascii_case(head)))
        .flat_map(|(_, classes)| classes.iter().copied())
        .collect();
    if !found.is_empty() {
        let ordered = CLASSES.iter().filter(|class| found.contains(class));
        return Labels::Positive(ordered.map(|class| (*class).to_owned()).collect());
    }
    if heads().any(|head| head.eq_ignore_ascii_case("normal")) { Labels::Negative } else { Labels::Unlabelled }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(terms: &[&str]) -> Labels {
        labels(&terms.iter().map(|term| (*term).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn terms_are_matched_by_their_head_and_told_in_the_order_of_the_classes() {
        let labels = of(&["Opacity/lung/base/left", "fractures, bone/ribs/healed", "Opacity/lung", "Osteophyte"]);
        assert_eq!(labels, Labels::Positive(vec!["Fracture".into(), "Lung Opacity".into()]));
    }

    #[test]
    fn normal_is_negative_and_terms_that_are_no_class_are_no_label() {
        assert_eq!(of(&["normal"]), Labels::Negative);
        assert_eq!(of(&["Density/lung", "Osteophyte"]), Labels::Unlabelled);
        assert_eq!(of(&["No Indexing"]), Labels::Unlabelled);
        assert_eq!(of(&[]), Labels::Unlabelled);
    }

    #[test]
    fn every_class_of_the_map_is_one_of_the_contracts() {
        assert!(HEADS.iter().all(|(_, classes)| classes.iter().all(|class| CLASSES.contains(class))));
    }
}
