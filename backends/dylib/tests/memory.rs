//! What the backend allocates, and for how long. An allocator counts what is large.
#![cfg(target_os = "linux")]

#[path = "plugin/library.rs"]
mod library;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use graphpool::backend::{Backend as _, ComputeControl, LoadRequest};
use graphpool::nn::{Encoding, Engine, ErrorKind, Target, Tensor, TensorType};
use graphpool_dylib::Serialized;
use library::{Plugin, eventually, floats, model, settings};

const LARGE: usize = 1 << 20;

/// The bytes of large allocations that live, and their highest number.
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE {
            let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
            PEAK.fetch_max(live, Ordering::Relaxed);
        }
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if layout.size() >= LARGE {
            LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        }
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time, as they count together.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Inputs that the guest has cleared are not counted, so they must not stay.
#[test]
fn cleared_inputs_are_freed() {
    let _alone = alone();
    let plugin = Plugin::build(&[]);
    let engine = Engine::new(plugin.backend());
    let guest = engine.guest();
    let graph = guest.load(&[&model("inputs 4")], Encoding::Onnx, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    let large = Tensor::from_f32([1 << 20], &vec![1.0; 1 << 20]).unwrap();
    let half = Tensor::new(vec![1], TensorType::Bf16, vec![0; 2]).unwrap();
    let before = LIVE.load(Ordering::Relaxed);
    for _ in 0..3 {
        let outputs = guest.infer(context, [0_u32, 1, 2, 3].map(|index| (index, &large))).unwrap();
        assert_eq!(floats(&outputs[0].data()[..4]), [4.0]);
        drop(outputs);
        // It clears the inputs of the last inference, and then is refused.
        guest.infer(context, [(0, &half)]).unwrap_err();
        assert_eq!(LIVE.load(Ordering::Relaxed), before);

        (0..4).for_each(|index| guest.set_input(context, index, &large).unwrap());
        assert!(LIVE.load(Ordering::Relaxed) > before);
        guest.clear_inputs(context).unwrap();
        assert_eq!(LIVE.load(Ordering::Relaxed), before);
        // Three new inputs, and none of those before.
        (0..3).for_each(|index| guest.set_input(context, index, &large).unwrap());
        assert_eq!(guest.compute(context).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    // A context that gets the same inputs each time needs no load of its own for that.
    let loads = plugin.events('l');
    for _ in 0..3 {
        guest.infer(context, [0_u32, 1, 2, 3].map(|index| (index, &large))).unwrap();
    }
    assert_eq!(plugin.events('l'), loads);
    drop((guest, engine));
    plugin.assert_gone();
}

#[test]
fn a_model_over_the_limit_is_refused_before_it_is_copied() {
    let _alone = alone();
    let plugin = Plugin::build(&[]);
    let backend = plugin.backend();
    let (part, parts) = (vec![0; LARGE * 2], 3);
    let parts = vec![part.as_slice(); parts];
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let request = LoadRequest::new(&parts, Encoding::Onnx, Target::Cpu).with_memory_limit(LARGE * 12 - 1);
    let error = backend.load(&request).err().unwrap();
    assert_eq!((error.kind(), PEAK.load(Ordering::Relaxed)), (ErrorKind::TooLarge, before));
    // Twice its bytes are the limit: now the library sees it.
    let error = backend.load(&request.with_memory_limit(LARGE * 12)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    drop(backend);
    plugin.assert_gone();
}

/// The end of a context is put off while another call has the library's turn. By then its graph is gone, too.
#[test]
fn a_models_bytes_live_until_its_context_has_ended() {
    let _alone = alone();
    let plugin = Plugin::build(&["EXCLUSIVE"]);
    let backend = plugin.backend_with(settings().with_serialized(Serialized::Library));
    let open = |words: &str| {
        let model = model(words);
        let graph = backend.load(&LoadRequest::new(&[&model], Encoding::Onnx, Target::Cpu)).unwrap();
        graph.init_context().unwrap()
    };
    let (mut slow, dropped) = (open("gate"), open("add 1"));
    slow.set_input(0, Tensor::from_f32([1], &[1.0]).unwrap().view()).unwrap();
    let gate = plugin.shut_gate();
    thread::scope(|scope| {
        let computing = scope.spawn(move || slow.compute(&ComputeControl::default()));
        eventually(|| plugin.events('w') == 1);
        drop(dropped);
        assert_eq!(plugin.events('d'), 0);
        drop(gate);
        computing.join().unwrap().unwrap();
    });
    drop(backend);
    plugin.assert_gone();
}
