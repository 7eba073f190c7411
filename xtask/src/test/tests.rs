//! Counting, choosing and judging, without running anything.

use super::*;

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn done(stdout: &str) -> Done {
    Done {
        success: true,
        stdout: stdout.to_owned(),
        stderr: String::new(),
    }
}

fn row(step: &'static str, tests: usize, passed: usize, success: bool) -> Row {
    Row {
        step,
        tests,
        passed,
        seconds: 1.0,
        success,
        note: String::new(),
    }
}

#[test]
fn results_of_several_targets_are_added_up() {
    let count = counted(&done(
        "running 2 tests\n\
         test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished\n\
         test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n",
    ));
    assert_eq!((count.tests, count.passed), (6, 5));
}

#[test]
fn ignored_tests_are_a_failure() {
    let count = counted(&done(
        "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured\n",
    ));
    assert!(!count.success);
}

#[test]
fn a_tier_without_tests_has_failed() {
    assert!(!good(&row("golden", 0, 0, true)));
    assert!(good(&row("golden", 3, 3, true)));
    assert!(good(&row("fmt", 0, 0, true)));
}

#[test]
fn the_simulator_says_how_many_seeds_held() {
    assert_eq!(seeds_that_held("seed 1\nseeds 1000 ok\n"), 1000);
    assert_eq!(seeds_that_held("seed 7: invariant broken\n"), 0);
}

#[test]
fn the_bench_says_how_many_rows_have_a_number() {
    assert_eq!(rows_measured("| x |\nrows 52 of 53\n"), (52, 53));
    assert_eq!(rows_measured("no floor\n"), (0, 0));
}

#[test]
fn the_summary_of_the_differential_tier_is_read() {
    let count = compared(
        "x\ndifferential: 440 cases: 380 equal, 58 explained (14 entries of docs/dialects.md), \
         2 unexplained; 18 of them also natively; autofs 5.1.8; 280 s\n",
    );
    assert_eq!((count.tests, count.passed), (440, 438));
}

#[test]
fn root_runs_everything_and_others_are_told() {
    let full = Wanted::default();
    assert_eq!(choose(&full, true), STEPS);
    assert!(steps_left_out(&full, true).is_empty());
    assert!(!choose(&full, false).contains(&"kernel"));
    assert_eq!(steps_left_out(&full, false), ROOT_ONLY);
}

#[test]
fn leaving_tiers_out_fails_unless_it_was_asked_for() {
    let rows = [row("unit", 1, 1, true)];
    assert!(verdict(&rows, &ROOT_ONLY, &Wanted::default()).is_err());
    let asked = parse(&words("--unprivileged")).unwrap();
    assert!(verdict(&rows, &ROOT_ONLY, &asked).is_ok());
}

#[test]
fn quick_has_neither_kernel_nor_differential() {
    let quick = parse(&words("--quick")).unwrap();
    assert!(
        !choose(&quick, true)
            .iter()
            .any(|step| ROOT_ONLY.contains(step))
    );
    assert!(steps_left_out(&quick, false).is_empty());
}

#[test]
fn one_step_may_be_chosen_by_name() {
    let only = parse(&words("--only kernel")).unwrap();
    assert_eq!(choose(&only, true), ["kernel"]);
    assert!(parse(&words("--only nothing")).is_err());
    assert!(parse(&words("--fast")).is_err());
}

#[test]
fn the_table_marks_what_failed() {
    let text = table(&[row("unit", 5, 5, true), row("kernel", 5, 4, false)]);
    assert!(text.contains("unit"));
    assert!(
        text.lines()
            .any(|line| line.starts_with("kernel") && line.contains("FAILED"))
    );
}
