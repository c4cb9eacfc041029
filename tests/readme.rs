//! What the README shows is what runs.

/// Each of its blocks of code stands, line for line and in that order, in the `main` of an example.
#[test]
fn the_readme_shows_what_the_examples_run() {
    let examples = [include_str!("../examples/quickstart.rs"), include_str!("../examples/host.rs")];
    let shown: Vec<_> = include_str!("../README.md").split("```rust\n").skip(1).collect();
    assert_eq!(shown.len(), examples.len());
    for (shown, example) in shown.into_iter().zip(examples) {
        let shown = shown.split("```").next().unwrap_or_default();
        let mut lines = example.lines().map(str::trim);
        for line in shown.lines().map(str::trim).filter(|line| !line.is_empty()) {
            assert!(lines.any(|example| example == line), "not in the example, or not there: {line}");
        }
        assert!(shown.lines().count() >= 10);
    }
}
