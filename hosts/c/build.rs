//! The name and the lifetime of the shared library.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|its| its == value);
    if is("CARGO_CFG_TARGET_FAMILY", "unix") && !is("CARGO_CFG_TARGET_VENDOR", "apple") {
        // Programs look for this name: another GP_ABI has another one.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libgraphpool.so.0");
        // The library stays mapped after dlclose: a call may be inside, threads of the engine run its code, and
        // destructors of thread-local values are in it.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
