//! Which library's code is called when files are replaced, and how long a library stays mapped. The tests open files
//! one after the other, so that the numbers of closed files come again.
#![cfg(target_os = "linux")]

#[path = "plugin/library.rs"]
mod library;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use graphpool::nn::Engine;
use graphpool_dylib::{DylibSettings, Mapping, Serialized};
use library::{Plugin, infer, settings};

/// One test at a time: the others open no files meanwhile.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the file as a new backend, computes once, and drops everything.
fn factor(plugin: &Plugin, settings: DylibSettings) -> Vec<f32> {
    let engine = Engine::new(plugin.backend_with(settings));
    infer(&engine.guest(), "", &[1.0]).unwrap()
}

/// As most libraries in C++ are: the C library keeps them after their last close.
#[test]
fn a_library_that_stays_mapped_is_not_taken_for_the_next_one() {
    let _alone = alone();
    let nodelete = "-Wl,-z,nodelete";
    let plugin = Plugin::build(&["FACTOR=2", nodelete]);
    assert_eq!(factor(&plugin, settings()), [2.0]);
    for number in [3_u8, 4, 5] {
        plugin.compile(&plugin.path, &[&format!("FACTOR={number}"), nodelete]);
        assert_eq!(factor(&plugin, settings()), [f32::from(number)]);
    }
    let other = Plugin::build(&["FACTOR=7"]);
    assert_eq!(factor(&other, settings()), [7.0]);
    other.assert_gone();
    assert_eq!((plugin.events('o'), plugin.events('c'), plugin.mapped()), (4, 0, true));
    plugin.assert_ended();
}

#[test]
fn a_library_stays_mapped_where_that_is_declared() {
    let _alone = alone();
    let plugin = Plugin::build(&["FACTOR=2"]);
    for mapping in [Mapping::Copy, Mapping::InPlace] {
        let kept = settings().with_kept_mapped(true).with_mapping(mapping);
        assert_eq!(factor(&plugin, kept), [2.0]);
    }
    assert_eq!((plugin.events('o'), plugin.events('c'), plugin.mapped()), (2, 0, true));
    // One that lacks a function is unmapped, as each further load opens it anew.
    plugin.compile(&plugin.path, &["NO_COMPUTE"]);
    let engine = Engine::new(plugin.backend_with(settings().with_kept_mapped(true)));
    assert!(infer(&engine.guest(), "", &[1.0]).is_err());
    assert_eq!((plugin.events('o'), plugin.events('c')), (3, 1));
    plugin.compile(&plugin.path, &["FACTOR=3"]);
    assert_eq!(factor(&plugin, settings()), [3.0]);
    assert_eq!((plugin.events('o'), plugin.events('c')), (4, 2));
    plugin.assert_ended();
}

/// Two backends, of two engines even, with one mapping.
#[test]
fn calls_of_all_backends_that_share_a_mapping_exclude_each_other() {
    let _alone = alone();
    let plugin = Plugin::build(&["EXCLUSIVE"]);
    let in_place = || settings().with_mapping(Mapping::InPlace).with_serialized(Serialized::Library);
    let engines = [(); 2].map(|()| Engine::new(plugin.backend_with(in_place())));
    thread::scope(|scope| {
        for engine in &engines {
            for _ in 0..2 {
                scope.spawn(|| {
                    let guest = engine.guest();
                    for _ in 0..40 {
                        assert_eq!(infer(&guest, "slow 1", &[1.0]), Ok(vec![1.0]));
                    }
                });
            }
        }
    });
    assert_eq!(plugin.events('o'), 1, "the mapping is shared");
    // The old backend's contexts and the new one's.
    let [engine, other] = engines;
    drop(other);
    thread::scope(|scope| {
        let guest = engine.guest();
        scope.spawn(move || (0..40).for_each(|_| drop(infer(&guest, "slow 1", &[1.0]).unwrap())));
        for _ in 0..10 {
            engine.replace_backend(plugin.backend_with(in_place())).unwrap();
            assert_eq!(infer(&engine.guest(), "slow 1", &[1.0]), Ok(vec![1.0]));
        }
    });
    drop(engine);
    plugin.assert_gone();
}
