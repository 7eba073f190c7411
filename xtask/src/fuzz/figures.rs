//! What libFuzzer says at its end, as figures.

use crate::process::Done;

/// One law's run.
#[derive(Debug, PartialEq)]
pub(super) struct Figures {
    /// Which law.
    pub(super) law: String,
    /// No input broke it, and inputs were tried.
    pub(super) held: bool,
    /// Inputs tried.
    executions: u64,
    /// Edges of the code that were reached.
    edges: u64,
    /// Inputs kept.
    inputs: u64,
    /// Most memory, in MiB.
    memory: u64,
}

/// Reads libFuzzer's last words.
pub(super) fn read(law: &str, done: &Done) -> Figures {
    let stat = |name: &str| {
        done.stderr.lines().rev().find_map(|line| {
            let rest = line.strip_prefix("stat::")?.strip_prefix(name)?;
            rest.strip_prefix(':')?.trim().parse().ok()
        })
    };
    // `#12345 DONE   cov: 678 ft: 901 corp: 234/56Kb …`
    let after = |what: &str| {
        done.stderr.lines().rev().find_map(|line| {
            let rest = line.strip_prefix('#')?.split_once(what)?.1;
            rest.trim_start().split([' ', '/']).next()?.parse().ok()
        })
    };
    let executions = stat("number_of_executed_units").unwrap_or(0);
    Figures {
        law: law.to_owned(),
        held: done.success && executions > 0,
        executions,
        edges: after(" cov: ").unwrap_or(0),
        inputs: after(" corp: ").unwrap_or(0),
        memory: stat("peak_rss_mb").unwrap_or(0),
    }
}

/// What was found and where the input is, without the stack.
pub(super) fn finding(done: &Done) -> String {
    let mut said = String::new();
    let mut panicked = 0_usize;
    for line in done.stderr.lines() {
        if line.contains("panicked at") {
            panicked = 8;
        }
        let telling = [
            "SUMMARY:",
            "Test unit written to",
            "Base64:",
            "ERROR:",
            "error:",
        ];
        let backtrace = line.starts_with("stack backtrace:");
        panicked = if backtrace { 0 } else { panicked };
        if panicked > 0 || telling.iter().any(|what| line.contains(what)) {
            panicked = panicked.saturating_sub(1);
            said += &format!("    {line}\n");
        }
    }
    said
}

impl Figures {
    /// As a row of a table.
    pub(super) fn line(&self) -> String {
        format!(
            "{:<10} {:>12} {:>7} {:>7} {:>6} MB  {}",
            self.law,
            self.executions,
            self.edges,
            self.inputs,
            self.memory,
            if self.held { "held" } else { "BROKEN" }
        )
    }
}

/// All rows under their heads.
pub(super) fn table(rows: &[Figures]) -> String {
    let mut text = format!(
        "{:<10} {:>12} {:>7} {:>7} {:>9}\n",
        "law", "executions", "edges", "inputs", "memory"
    );
    for row in rows {
        text += &row.line();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 30Mb
#81\tDONE   cov: 678 ft: 901 corp: 234/56Kb lim: 4096 exec/s: 40 rss: 40Mb
Done 81 runs in 2 second(s)
stat::number_of_executed_units: 81
stat::average_exec_per_sec:     40
stat::peak_rss_mb:              41
";

    fn done(success: bool, stderr: &str) -> Done {
        Done {
            success,
            stdout: String::new(),
            stderr: stderr.to_owned(),
        }
    }

    #[test]
    fn the_last_words_are_read() {
        let figures = read("entry", &done(true, SAID));
        assert!(figures.held);
        assert_eq!((figures.executions, figures.edges), (81, 678));
        assert_eq!((figures.inputs, figures.memory), (234, 41));
        assert!(table(&[figures]).ends_with("held\n"));
    }

    #[test]
    fn a_run_without_inputs_or_with_a_finding_did_not_hold() {
        assert!(!read("entry", &done(true, "")).held);
        assert!(!read("entry", &done(false, SAID)).held);
    }
}
