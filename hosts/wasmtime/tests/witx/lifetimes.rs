//! The end of guests: by a trap, by an epoch, by fuel, and of very many one after the other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use graphpool::nn::{Engine, Stats};
use graphpool_wasmtime::WasiNnCtx;
use wasmtime::{Config, Module, Trap};

use crate::backend::Words;
use crate::layout::{engine as engine_of, guest};
use crate::puppet::{Mode, Puppet, UNSHARED, WASM, block_on, engine as wasm_engine, wat};

fn nothing_is_held(stats: &Stats) {
    let held = (stats.guests, stats.graph_handles, stats.contexts, stats.context_bytes, stats.computing, stats.queued);
    assert_eq!(held, (0, 0, 0, 0, 0, 0), "{stats:?}");
}

/// A puppet of this engine of Wasmtime's, with a context that computes.
fn puppet(wasm: &wasmtime::Engine, engine: &Engine, model: &str, mode: Mode) -> (Puppet, u32) {
    let module = Module::new(wasm, wat(UNSHARED)).unwrap();
    let mut store = wasmtime::Store::new(wasm, WasiNnCtx::new(engine.guest()));
    // An error where the engine does not count fuel.
    let _ = store.set_fuel(1_000_000);
    store.set_epoch_deadline(1);
    let mut puppet = Puppet::in_store(store, &module, mode);
    puppet.furnish(model);
    let graph = puppet.load();
    let context = puppet.context(graph);
    (puppet, context)
}

fn spin(puppet: &mut Puppet, context: u32, mode: Mode) -> Trap {
    let spin = puppet.instance.get_typed_func::<u32, u32>(&mut puppet.store, "spin").unwrap();
    let ended = match mode {
        Mode::Blocking => spin.call(&mut puppet.store, context),
        Mode::Async => block_on(spin.call_async(&mut puppet.store, context)),
    };
    *ended.unwrap_err().downcast_ref::<Trap>().unwrap()
}

#[test]
fn an_epoch_ends_a_guest_between_its_calls() {
    for mode in [Mode::Blocking, Mode::Async] {
        let mut config = Config::new();
        config.epoch_interruption(true);
        let (wasm, engine) = (wasm_engine(config), Engine::new(Words::default()));
        let (mut puppet, context) = puppet(&wasm, &engine, "copy", mode);
        thread::scope(|scope| {
            scope.spawn(|| {
                while engine.stats().computes < 100 {
                    thread::yield_now();
                }
                wasm.increment_epoch();
            });
            assert_eq!(spin(&mut puppet, context, mode), Trap::Interrupt);
        });
        assert!(engine.stats().computes >= 100);
        // The store is usable after it.
        puppet.store.set_epoch_deadline(1);
        puppet.works();
        drop(puppet);
        nothing_is_held(&engine.stats());
    }
}

#[test]
fn a_watchdog_ends_a_guest_inside_a_compute() {
    for mode in [Mode::Blocking, Mode::Async] {
        let mut config = Config::new();
        config.epoch_interruption(true);
        let words = Words::default();
        let (wasm, engine) = (wasm_engine(config), Engine::new(words.clone()));
        let (mut puppet, context) = puppet(&wasm, &engine, "wait", mode);
        let guest = puppet.store.data().guest().clone();
        thread::scope(|scope| {
            scope.spawn(|| {
                words.wait_for(1);
                wasm.increment_epoch();
                // It knows no handle of the guest's.
                assert_eq!(guest.cancel_all(), 1);
            });
            assert_eq!(spin(&mut puppet, context, mode), Trap::Interrupt);
        });
        // The compute has ended with an error, and no second one has begun.
        assert_eq!((engine.stats().cancelled, words.entered()), (1, 1));
        drop((guest, puppet));
        nothing_is_held(&engine.stats());
    }
}

#[test]
fn fuel_ends_a_guest() {
    for mode in [Mode::Blocking, Mode::Async] {
        let mut config = Config::new();
        config.consume_fuel(true);
        let (wasm, engine) = (wasm_engine(config), Engine::new(Words::default()));
        let (mut puppet, context) = puppet(&wasm, &engine, "copy", mode);
        puppet.store.set_fuel(1_000).unwrap();
        assert_eq!(spin(&mut puppet, context, mode), Trap::OutOfFuel);
        assert!(engine.stats().computes > 10);
        puppet.store.set_fuel(100_000).unwrap();
        puppet.works();
        drop(puppet);
        nothing_is_held(&engine.stats());
    }
}

/// Resident memory of the process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or_default() * 4_096
}

#[test]
fn ten_thousand_instances_leave_nothing() {
    const INSTANCES: usize = 10_000;
    let engine = engine_of(&Words::default());
    let module = Module::new(&WASM, wat(UNSHARED)).unwrap();
    let (next, first) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let instance = next.fetch_add(1, Ordering::Relaxed);
                    if instance >= INSTANCES {
                        break;
                    }
                    if instance == INSTANCES / 10 {
                        first.store(resident(), Ordering::Relaxed);
                    }
                    let mode = if instance % 4 == 0 { Mode::Async } else { Mode::Blocking };
                    let mut puppet = Puppet::of(WasiNnCtx::new(guest(&engine)), &module, mode);
                    puppet.furnish("copy");
                    let graph = puppet.load();
                    let context = puppet.context(graph);
                    assert_eq!(puppet.call("compute", &[context]), 0);
                    // Some give back what they hold, others end with it.
                    if instance % 2 == 0 {
                        assert_eq!(puppet.call("unload", &[graph]), 0);
                        puppet.works();
                        puppet.load();
                    }
                }
            });
        }
    });
    let (first, last) = (first.into_inner(), resident());
    println!("resident: {} KiB after {}, {} KiB after {INSTANCES}", first >> 10, INSTANCES / 10, last >> 10);
    let stats = engine.stats();
    nothing_is_held(&stats);
    assert_eq!(stats.panics, 0);
    assert!(last < first + (64 << 20), "{first} bytes after a tenth, {last} at the end");
}
