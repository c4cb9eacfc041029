//! The lifetime of the shared library.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|its| its == value);
    if is("CARGO_CFG_TARGET_FAMILY", "unix") && !is("CARGO_CFG_TARGET_VENDOR", "apple") {
        // The library stays mapped after dlclose, see the package's documentation. Darwin never unmaps a library with
        // thread-local values, and has no such flag.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
