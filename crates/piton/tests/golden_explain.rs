//! `piton explain` on every worked example of the founding documents, word for word.

mod golden;

#[test]
fn explanations() {
    golden::run_all("explain");
}
