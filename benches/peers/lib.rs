//! Benchmarks of the pool beside what could be used in its place: `cargo bench -p graphpool-peers`.
