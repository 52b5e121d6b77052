//! A plan for people.

use std::fmt;
use std::time::Duration;

use super::{Plan, StagePlan};
use crate::run::memory::readable;
use crate::run::minutes;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: a plan; bytes and times are estimates", self.name)?;
        let state = if self.out_holds_a_run { "which holds a run: it would go on" } else { "a new run" };
        writeln!(f, "  writes to     {} ({state})", self.out.display())?;
        let films = self.films;
        write!(f, "  films         {} to learn from, {} to validate on", films.train, films.val)?;
        if films.lateral > 0 {
            write!(f, ", {} lateral ones left out", films.lateral)?;
        }
        if films.missing > 0 {
            write!(f, ", {} missing ones left out", films.missing)?;
        }
        writeln!(f)?;
        let (bytes, memory) = (readable(films.bytes), readable(films.memory_bytes));
        match films.memory_bytes == films.bytes {
            true => writeln!(f, "                {bytes} of pixels, decoded once, on disk and in memory")?,
            false => writeln!(
                f,
                "                {bytes} of pixels, decoded once, on disk; {memory} in memory, those of the coming steps"
            )?,
        }
        writeln!(f, "\n  {:14}{:>14}{:>14}", "network", "parameters", "trained")?;
        for network in &self.networks {
            let (all, trained) = (grouped(network.parameters), grouped(network.trained));
            writeln!(
                f,
                "  {:14}{all:>14}{trained:>14}{}",
                network.name,
                if network.frozen { "  as it is" } else { "" }
            )?;
        }
        for stage in &self.stages {
            self.stage(f, stage)?;
            let Some(encode) = self.encode.filter(|_| stage.stage == "tokenizer") else { continue };
            writeln!(f, "\n  stage encode: {} grids of {} tokens", grouped(encode.grids as u64), encode.tokens)?;
            writeln!(f, "    disk        {} of tokens", readable(encode.bytes))?;
            if let Some((seconds, grid)) = encode.seconds.zip(encode.grid) {
                writeln!(f, "    time        about {} ({:.1} ms a grid)", time(seconds), grid.seconds * 1e3)?;
            }
        }
        writeln!(f)?;
        if let Some(available) = self.available_bytes {
            write!(f, "  memory left   {} on this machine", readable(available))?;
            match self.measured_peak_bytes {
                Some(peak) => writeln!(f, "; this plan took at most {} while it timed steps", readable(peak))?,
                None => writeln!(f)?,
            }
            // On a GPU the stage is in its memory, not here: then this says too much rather than too little.
            if self.needed_bytes() > available {
                writeln!(
                    f,
                    "  TOO MUCH      films and the largest stage need about {}",
                    readable(self.needed_bytes())
                )?;
            }
        }
        match (self.seconds, &self.not_measured) {
            (Some(seconds), _) => writeln!(
                f,
                "  in all        about {} on this machine as busy as it is now, steps and validations; measured on noise",
                time(seconds)
            ),
            (None, Some(reason)) => writeln!(f, "  in all        no time is told: {reason}"),
            (None, None) => Ok(()),
        }
    }
}

impl Plan {
    fn stage(&self, f: &mut fmt::Formatter<'_>, stage: &StagePlan) -> fmt::Result {
        if stage.steps == 0 {
            return writeln!(f, "\n  stage {}: no steps, it is taken as it is", stage.stage);
        }
        let (steps, epochs) = (grouped(stage.steps), stage.epochs);
        writeln!(f, "\n  stage {}: {steps} steps of {} films, {epochs:.1} epochs", stage.stage, stage.batch)?;
        let memory = stage.memory;
        writeln!(
            f,
            "    memory      about {}: weights {}, gradients {}, moments {}, average {}, activations about {}",
            readable(memory.total()),
            readable(memory.weights),
            readable(memory.gradients),
            readable(memory.moments),
            readable(memory.average),
            readable(memory.activations)
        )?;
        writeln!(f, "    disk        {} of checkpoints", readable(stage.checkpoint_bytes))?;
        let Some((seconds, step)) = stage.seconds.zip(stage.step) else { return Ok(()) };
        let how = match step.films == stage.batch {
            true => format!("{} steps timed", step.steps),
            false => format!("scaled up from {} of {} films a step", step.films, stage.batch),
        };
        writeln!(f, "    time        about {} ({:.3} s a step, {how})", time(seconds), step.seconds)
    }
}

fn time(seconds: f64) -> String {
    minutes(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
