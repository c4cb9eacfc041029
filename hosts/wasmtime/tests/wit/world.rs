//! The host links components that were built against the published text of the interfaces.

use wasmtime::component::Component;

use crate::puppet::{MODES, engine, linker};

const WORLD: &str = include_str!("world.wat");

fn links(text: &str) -> bool {
    let component = Component::new(engine(), wat::parse_str(text).unwrap()).unwrap();
    let links = MODES.map(|mode| linker(engine(), mode).instantiate_pre(&component).is_ok());
    assert_eq!(links[0], links[1]);
    links[0]
}

#[test]
fn a_component_with_every_import_of_the_world_links() {
    assert!(links(WORLD));
}

#[test]
fn a_component_with_another_interface_does_not() {
    for (from, to) in [
        (" \"security\"", ""),
        ("\"BF16\" \"U8\"", "\"U8\" \"BF16\""),
        ("\"ggml\" \"autodetect\"", "\"autodetect\" \"ggml\""),
        ("\"cpu\" \"gpu\"", "\"gpu\" \"cpu\""),
        ("\"load-by-name\"", "\"load-by-number\""),
        ("(list u32)", "(list u64)"),
        ("tuple string (own", "tuple (own"),
        ("rc-2024-10-28", "rc-2024-08-19"),
    ] {
        assert!(WORLD.contains(from), "{from}");
        assert!(!links(&WORLD.replace(from, to)), "{from} as {to}");
    }
}
