//! The lifetime of the shared library.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        // The library stays mapped after dlclose, see the package's documentation. Darwin never unmaps a library with
        // thread-local values.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
