//! When a library is opened, what keeps it from that, and when it is closed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use graphpool::nn::{Encoding, Engine, Target, Tensor};
use graphpool_dylib::{DylibBackend, DylibSettings, Mapping};

use crate::library::{Plugin, eventually, floats, infer, model, settings};

/// 8 threads, a thousand rounds together: each registers the plug-in under a name of its own, loads, computes, unloads
/// and removes it.
#[test]
fn threads_that_register_and_remove_a_plug_in_leave_it_closed() {
    let plugin = Plugin::build(&[]);
    let engine = Engine::new(plugin.backend_with(DylibSettings::new([]).with_name("unused")));
    thread::scope(|scope| {
        for number in 0..8_u8 {
            let (engine, plugin) = (&engine, &plugin);
            scope.spawn(move || {
                let name = format!("plugin {number}");
                let guest = engine.guest();
                for round in 0..125 {
                    let own = plugin.backend_with(settings().with_name(&name));
                    engine.register_backend(own).unwrap();
                    // Of another thread's plug-in, perhaps, but with its own words.
                    let words = format!("add {number} slow {}", round % 2);
                    let inferred = infer(&guest, &words, &[1.0, f32::from(number)]);
                    assert_eq!(inferred, Ok(vec![1.0 + f32::from(number), f32::from(number) * 2.0]));
                    engine.remove_backend(&name).unwrap();
                }
            });
        }
    });
    assert_eq!(engine.list_backends(), ["unused"]);
    drop(engine);
    assert!(plugin.events('o') > 8 && plugin.events('l') >= 1000);
    plugin.assert_gone();
}

/// A function that is missing, an initializer that fails and a file that is no library are named, without the host's
/// path; and when the file is another the next load works.
#[test]
fn what_keeps_a_library_from_opening_is_named_and_tried_again() {
    let plugin = Plugin::build(&["NO_COMPUTE"]);
    let engine = Engine::new(plugin.backend());
    let guest = engine.guest();
    let file = plugin.path.file_name().unwrap().to_str().unwrap().to_owned();
    let refused = || {
        let message = infer(&guest, "", &[1.0]).unwrap_err().message().to_owned();
        assert!(!message.contains(plugin.path.parent().unwrap().to_str().unwrap()), "{message}");
        message
    };
    assert_eq!(refused(), format!("load: the library {file} has no function compute"));
    plugin.compile(&plugin.path, &["NO_DEINIT"]);
    assert_eq!(refused(), format!("load: the library {file} has no function deinit_backend"));
    std::fs::write(&plugin.path, b"\x7fELF, and no more").unwrap();
    let named = format!("load: the library {file} cannot be opened: {file}: ");
    assert!(refused().starts_with(&named), "{}", refused());
    std::fs::remove_file(&plugin.path).unwrap();
    assert!(refused().starts_with(&format!("load: the library {file} cannot be read: ")), "{}", refused());
    std::fs::create_dir(&plugin.path).unwrap();
    assert_eq!(refused(), format!("load: the library {file} cannot be read: it is not a regular file"));
    std::fs::remove_dir(&plugin.path).unwrap();
    assert_eq!(plugin.events('o'), plugin.events('c'));

    plugin.compile(&plugin.path, &["FAIL_INIT"]);
    assert_eq!(refused(), format!("load: init_backend of {file} returned runtime_error (5)"));
    // This one is open, and stays so.
    assert_eq!((plugin.events('o'), refused().is_empty()), (plugin.events('c') + 1, false));
    plugin.compile(&plugin.path, &[]);
    engine.replace_backend(plugin.backend()).unwrap();
    assert_eq!(infer(&guest, "", &[1.0]), Ok(vec![1.0]));
    drop((guest, engine));
    plugin.assert_gone();
    // SAFETY: as in `Plugin::backend_with`.
    assert!(unsafe { DylibBackend::open("/nowhere/libx.so", settings()) }.is_err());
}

/// A library that is mapped from its own file: the loader's message has its path, which guests do not see.
#[test]
fn a_library_is_mapped_in_place_where_that_is_declared() {
    let plugin = Plugin::build(&["FACTOR=2"]);
    let backend = || plugin.backend_with(settings().with_mapping(Mapping::InPlace));
    let engine = Engine::new(backend());
    let guest = engine.guest();
    assert_eq!(infer(&guest, "", &[1.0]), Ok(vec![2.0]));
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert!(maps.contains(plugin.path.to_str().unwrap()));
    drop((guest, engine));
    plugin.assert_gone();

    std::fs::remove_file(&plugin.path).unwrap();
    std::fs::write(&plugin.path, b"no library").unwrap();
    let error = infer(&Engine::new(backend()).guest(), "", &[1.0]).unwrap_err();
    let file = plugin.path.file_name().unwrap().to_str().unwrap();
    assert!(error.message().starts_with(&format!("load: the library {file} cannot be opened: {file}: ")), "{error}");
    assert!(!error.message().contains(plugin.path.parent().unwrap().to_str().unwrap()), "{error}");
}

/// Threads that come while a library opens wait for it: it is opened once, or fails once for all of them.
#[test]
fn a_library_is_opened_once_for_all_that_wait() {
    let plugin = Plugin::build(&["SLOW_OPEN"]);
    let engine = Engine::new(plugin.backend());
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| assert_eq!(infer(&engine.guest(), "", &[1.0]), Ok(vec![1.0])));
        }
    });
    assert_eq!(plugin.events('o'), 1);
    drop(engine);
    plugin.assert_gone();
}

/// The file is replaced by a rename, and is overwritten in place. Contexts of the old library go on computing with it,
/// new ones use the new library, and each is unmapped after its last context.
#[test]
fn a_library_that_is_replaced_on_disk_is_opened_anew_beside_the_old_one() {
    let plugin = Plugin::build(&["FACTOR=2"]);
    let engine = Engine::new(plugin.backend());
    let guest = engine.guest();
    let open = || {
        let graph = guest.load(&[&model("add 1")], Encoding::Onnx, Target::Cpu).unwrap();
        let context = guest.init_execution_context(graph).unwrap();
        guest.set_input(context, 0, &Tensor::from_f32([1], &[10.0]).unwrap()).unwrap();
        guest.unload(graph).unwrap();
        context
    };
    let compute = |context| {
        guest.compute(context).unwrap();
        floats(guest.output(context, 0).unwrap().data())[0] as u32
    };
    let of_two = open();
    assert_eq!(compute(of_two), 21);
    let aside = plugin.path.with_extension("new");
    plugin.compile(&aside, &["FACTOR=3"]);
    std::fs::rename(&aside, &plugin.path).unwrap();
    assert_eq!(compute(open()), 21, "the backend has its library open");
    engine.replace_backend(plugin.backend()).unwrap();
    let of_three = open();
    assert_eq!((compute(of_two), compute(of_three)), (21, 31));
    // The same inode, whose mapped pages would change.
    plugin.compile(&aside, &["FACTOR=4"]);
    std::fs::copy(&aside, &plugin.path).unwrap();
    engine.replace_backend(plugin.backend()).unwrap();
    let of_four = open();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let computing = scope.spawn(|| {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) || rounds == 0 {
                assert_eq!((compute(of_two), compute(of_three)), (21, 31));
                rounds += 1;
            }
        });
        for _ in 0..50 {
            assert_eq!(compute(of_four), 41);
        }
        stop.store(true, Ordering::Relaxed);
        computing.join().unwrap();
    });
    assert_eq!((plugin.events('o'), plugin.events('c')), (3, 0));
    guest.drop_context(of_three).unwrap();
    eventually(|| plugin.events('c') == 1);
    assert_eq!((compute(of_two), compute(of_four)), (21, 41));
    drop((guest, engine));
    plugin.assert_gone();
}

/// A library without `deinit_backend` is accepted where that is declared.
#[test]
fn a_library_need_not_end_its_contexts_where_that_is_declared() {
    let plugin = Plugin::build(&["NO_DEINIT"]);
    let engine = Engine::new(plugin.backend_with(settings().without_deinit()));
    assert_eq!(infer(&engine.guest(), "add 1", &[1.0]), Ok(vec![2.0]));
    drop(engine);
    assert_eq!((plugin.events('i'), plugin.events('o'), plugin.mapped()), (1, plugin.events('c'), false));
}
