//! What the README shows is what runs.

/// The lines of an example's `main` stand in the README.
#[test]
fn the_readme_shows_the_quickstart() {
    let example = include_str!("../examples/quickstart.rs");
    let readme = include_str!("../README.md");
    let shown = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of code");
    for line in shown.lines().map(str::trim).filter(|line| !line.is_empty()) {
        assert!(example.lines().any(|example| example.trim() == line), "not in examples/quickstart.rs: {line}");
    }
    assert!(shown.lines().count() >= 10);
}
