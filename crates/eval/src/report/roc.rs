//! A ROC curve as a panel, one class each: curves of ten classes in one panel cannot be told apart.

use crate::classification::{Estimate, RocPoint, Undefined};
use crate::plot::{Colour, Panel, Series, Style};

/// The curve of `class` with its AUROC; a panel that says why if it has none.
#[must_use]
pub fn roc_panel(class: &str, curve: Option<&[RocPoint]>, auroc: Result<Estimate, Undefined>) -> Panel {
    let panel = Panel::new(class, "false positive rate (x), true positive rate (y)").x_range(0.0, 1.0);
    match (curve, auroc) {
        (Some(curve), Ok(estimate)) => {
            let points = curve.iter().map(|point| (point.false_positive_rate, point.true_positive_rate)).collect();
            let label = match estimate.interval {
                Some(interval) => {
                    format!("AUROC {:.2} ({:.2} to {:.2})", estimate.value, interval.lower, interval.upper)
                }
                None => format!("AUROC {:.2}", estimate.value),
            };
            let chance = Series::new("chance", vec![(0.0, 0.0), (1.0, 1.0)], Colour::SOFT_INK, Style::Faint);
            panel.with(chance).with(Series::new(label, points, Colour::BLUE, Style::Line))
        }
        (_, Err(why)) => panel.empty_message(why.to_string()),
        (None, Ok(_)) => panel.empty_message("no curve"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classification::{ClassificationError, auroc, roc_curve};
    use crate::plot::Figure;

    #[test]
    fn a_class_has_a_curve_or_the_reason_why_not() -> Result<(), ClassificationError> {
        let scores: Vec<f32> =
            (0..200).map(|place| ((place * 7919 % 997) as f32 / 997.0) + (place % 2) as f32 * 0.3).collect();
        let labels: Vec<bool> = (0..200).map(|place| place % 2 == 1).collect();
        let curve = roc_curve(&scores, &labels)?;
        let value = auroc(&scores, &labels)?.unwrap_or_default();
        let ink = |panel: Panel| {
            let canvas = Figure::new("", 1).with(panel).render();
            canvas.pixels().chunks_exact(3).filter(|pixel| *pixel == Colour::BLUE.0).count()
        };
        let drawn = roc_panel("Edema", curve.as_deref(), Ok(Estimate { value, interval: None }));
        assert!(ink(drawn) > 400);
        assert_eq!(ink(roc_panel("Fracture", None, Err(Undefined::NoPositive))), 0);
        Ok(())
    }
}
