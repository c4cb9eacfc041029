//! Tells rustdoc which model checker the crate is built for. Cargo gives it no `RUSTFLAGS`: without this the examples
//! of the documentation would be looked for in sources for which this build has no dependencies.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for cfg in ["loom", "crossbeam_loom", "shuttle"] {
        if std::env::var_os(format!("CARGO_CFG_{}", cfg.to_uppercase())).is_some() {
            println!("cargo::rustc-cfg={cfg}");
        }
    }
}
