//! The committed header is the one that the source makes.

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs};

#[test]
fn the_header_is_the_one_that_the_source_makes() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(package.join("cbindgen.toml")).unwrap();
    let mut made = Vec::new();
    cbindgen::Builder::new().with_config(config).with_crate(package).generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();
    assert!(made.contains(&format!("#define GP_VERSION \"{}\"", env!("CARGO_PKG_VERSION"))), "cbindgen.toml's version");
    let header = package.join("include/graphpool.h");
    if env::var_os("UPDATE_HEADER").is_some() {
        fs::write(&header, &made).unwrap();
    }
    assert!(fs::read_to_string(&header).unwrap() == made, "UPDATE_HEADER=1 writes include/graphpool.h anew");
}

#[test]
fn the_header_defines_each_constant_that_it_names() {
    let header = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("include/graphpool.h")).unwrap();
    let words = header.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let names: BTreeSet<&str> = words.filter(|word| word.starts_with("GP_")).collect();
    let undefined = names.into_iter().filter(|name| {
        let places = [format!("#define {name} "), format!("  {name} = ")];
        !places.iter().any(|place| header.contains(place))
    });
    assert_eq!(undefined.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn the_librarys_name_ends_in_its_abi() {
    let build = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs")).unwrap();
    assert!(build.contains(&format!("-soname,libgraphpool.so.{}\"", graphpool_c::GP_ABI)), "build.rs names another");
}
