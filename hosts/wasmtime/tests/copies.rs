//! How often a tensor is copied between a guest's memory and the backend: every copy in the host needs a block that is
//! as large as the tensor, and the allocator counts those. One test, so that nothing else allocates in the process.

#![allow(missing_docs, reason = "a test")]
#![cfg(all(feature = "witx", feature = "async"))]

#[path = "witx/backend.rs"]
#[allow(dead_code, reason = "one test uses a part of it")]
mod backend;
mod blocks;
#[path = "witx/puppet.rs"]
#[allow(dead_code, reason = "one test uses a part of it")]
mod puppet;

use graphpool::nn::Engine;
use graphpool_wasmtime::WasiNnCtx;

use crate::backend::Words;
use crate::blocks::{BYTES, blocks};
use crate::puppet::{Mode, Puppet};

const TENSOR: u32 = 0x100;
const OUT: u32 = 0x200;
const DATA: u32 = 0x1_0000;

#[test]
fn a_tensor_is_copied_once_each_way_and_in_a_shared_memory_once_more_on_the_way_in() {
    let unshared = r#"(memory (export "memory") 40)"#;
    let shared = r#"(memory (export "memory") 40 40 shared)"#;
    for (memory, input, output) in [(unshared, 1, 0), (shared, 2, 0)] {
        for mode in [Mode::Blocking, Mode::Async] {
            let words = Words::default();
            let engine = Engine::new(words.clone());
            let mut puppet = Puppet::new(WasiNnCtx::new(engine.guest()), memory, mode);
            puppet.write(0, b"copy");
            puppet.write_words(0x80, &[0, 4]);
            puppet.write_words(TENSOR, &[TENSOR + 20, 1, 1, DATA, BYTES, BYTES / 4]);
            let graph = puppet.made("load", &[0x80, 1, 1, 0, OUT]);
            let context = puppet.made("init_execution_context", &[graph, OUT]);
            // The backend keeps a copy of its own: that is the one, and in a shared memory the second.
            assert_eq!(blocks(|| assert_eq!(puppet.call("set_input", &[context, 0, TENSOR]), 0)), input, "{mode:?}");
            let addresses = puppet.addresses();
            assert_eq!(addresses.contains(&words.input()), memory == unshared);
            assert_eq!(puppet.call("compute", &[context]), 0);
            // The output goes from the backend's block into the memory: one copy, and no block for it.
            let get = || assert_eq!(puppet.made("get_output", &[context, 0, DATA + 1, BYTES, OUT]), BYTES);
            assert_eq!(blocks(get), output, "{mode:?}");
        }
    }
}
