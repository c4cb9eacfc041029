//! A shared memory: two instances, each on its thread and in its store, with one guest, and a third thread that writes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use graphpool::nn::Engine;
use graphpool_wasmtime::WasiNnCtx;
use wasmtime::{MemoryType, SharedMemory};
use wiggle::{GuestMemory, GuestPtr};

use crate::backend::Words;
use crate::layout::{BUFFER, CPU, DATA, DIMENSIONS, MODEL, ONNX, OUT, PARTS, TENSOR};
use crate::puppet::{END, Mode, Puppet, WASM};

const ROUNDS: usize = 3_000;

/// The places of the results of the two instances, to which the third thread does not write.
const OUTS: [u32; 2] = [0xf000, 0xf010];

#[test]
fn a_thread_that_writes_during_calls_gets_errnos_and_breaks_nothing() {
    for mode in [Mode::Blocking, Mode::Async] {
        let words = Words::default();
        let engine = Engine::new(words.clone());
        let memory = SharedMemory::new(&WASM, MemoryType::shared(2, 2)).unwrap();
        let guest = engine.guest();
        let puppet = || Puppet::sharing(WasiNnCtx::new(guest.clone()), &memory, mode);
        let mut puppets = [puppet(), puppet()];
        puppets[0].furnish("copy");
        let stop = AtomicBool::new(false);
        let mut seen = [0; 9];
        thread::scope(|scope| {
            scope.spawn(|| scribble(&memory, &stop));
            let mut outs = OUTS.into_iter();
            let threads = puppets.each_mut().map(|puppet| {
                let out = outs.next().unwrap();
                scope.spawn(move || bother(puppet, out))
            });
            for thread in threads {
                for (seen, count) in seen.iter_mut().zip(thread.join().unwrap()) {
                    *seen += count;
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        println!("{mode:?}: errnos 0 to 8: {seen:?}");
        // Good calls, refused tensors and refused pointers were among them; no fault of the host was.
        assert!(seen[0] > 0 && seen[1] > 0 && seen[3] + seen[7] > 0, "{seen:?}");
        assert_eq!(engine.stats().panics, 0);
        for mut puppet in puppets {
            let addresses = puppet.addresses();
            puppet.furnish("copy");
            puppet.works();
            // What the backend saw was a copy.
            assert!(!addresses.contains(&words.input()));
        }
        drop(guest);
        let stats = engine.stats();
        assert_eq!((stats.guests, stats.graph_handles, stats.contexts, stats.context_bytes), (0, 0, 0, 0));
    }
}

/// Makes every call again and again, and counts the errnos.
fn bother(puppet: &mut Puppet, out: u32) -> [usize; 9] {
    let mut seen = [0; 9];
    let mut count = |errno: u32| {
        seen[errno as usize] += 1;
        errno == 0
    };
    let mut held = Vec::new();
    for round in 0..ROUNDS {
        if count(puppet.call("load", &[PARTS, 1, ONNX, CPU, out])) {
            let graph = puppet.word(out);
            if count(puppet.call("init_execution_context", &[graph, out])) {
                held.push((graph, puppet.word(out)));
            } else {
                panic!("a graph has no context");
            }
        }
        if let Some((_, context)) = held.last() {
            count(puppet.call("set_input", &[*context, 0, TENSOR]));
            if round % 16 == 0 && count(puppet.call("compute", &[*context])) {
                count(puppet.call("get_output", &[*context, 0, BUFFER, 64, out]));
            }
        }
        if held.len() > 8 {
            for (graph, context) in held.drain(..) {
                assert_eq!(puppet.call("finalize_execution_context", &[context]), 0);
                assert_eq!(puppet.call("unload", &[graph]), 0);
            }
        }
    }
    seen
}

/// Writes good and bad words over what the calls read.
fn scribble(memory: &SharedMemory, stop: &AtomicBool) {
    let mut random = 0x9e37_79b9_u32;
    let write = |at: u32, word: u32| {
        let mut memory = GuestMemory::Shared(memory.data());
        memory.copy_from_slice(&word.to_le_bytes(), GuestPtr::new((at, 4))).unwrap();
    };
    let good = [
        (PARTS, MODEL),
        (PARTS + 4, 4),
        (MODEL, u32::from_le_bytes(*b"copy")),
        (TENSOR, DIMENSIONS),
        (TENSOR + 4, 1),
        (TENSOR + 8, 1),
        (TENSOR + 12, DATA),
        (TENSOR + 16, 8),
        (DIMENSIONS, 2),
    ];
    let bad = [0, 1, 3, 4, 9, 0xff, OUT, END - 1, END, 0x7fff_ffff, u32::MAX];
    while !stop.load(Ordering::Relaxed) {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (at, word) = good[(random >> 8) as usize % good.len()];
        write(at, bad[(random >> 16) as usize % bad.len()]);
        thread::yield_now();
        write(at, word);
        thread::yield_now();
    }
}
