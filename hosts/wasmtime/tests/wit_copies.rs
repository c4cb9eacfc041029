//! How often a tensor or a model is copied between a component's memory and the backend: every copy in the host needs a
//! block that is as large, and the allocator counts those. One test, so that nothing else allocates in the process.

#![allow(missing_docs, reason = "a test")]
#![cfg(all(feature = "wit", feature = "async"))]

#[path = "wit/backend.rs"]
#[allow(dead_code, reason = "one test uses a part of it")]
mod backend;
mod blocks;
#[path = "wit/puppet.rs"]
#[allow(dead_code, reason = "one test uses a part of it")]
mod puppet;
#[path = "wit/setup.rs"]
#[allow(dead_code, reason = "one test uses a part of it")]
mod setup;

use crate::blocks::{BYTES, blocks};
use crate::puppet::{CPU, Mode, ONNX, ty};
use crate::setup::each;

#[test]
fn a_tensor_is_copied_twice_on_its_way_in_and_at_most_twice_on_its_way_out() {
    each(|setup| {
        let mut puppet = setup.puppet();
        // One output is moved out of the backend, the other copied, which no host can change.
        for (model, outputs) in [("echo", 0), ("lend", 1)] {
            let context = puppet.open(model);
            puppet.reset();
            let dimensions = puppet.put_words(&[BYTES]);
            let (data,) = puppet.ask::<_, (u32,)>("allocate", (BYTES,));
            let arguments = (dimensions, 1_u32, ty::U8, data, BYTES);
            let mut tensor = 0;
            let construct = || tensor = puppet.ask::<_, (u32,)>("new-tensor", arguments).0;
            assert_eq!(blocks(construct), 1, "from the guest's memory into the table");
            let name = puppet.put(b"x");
            let list = puppet.put_words(&[name, 1, tensor]);
            // The backend copies the input, and makes its output from it.
            let compute = || puppet.ask::<_, ()>("compute", (context, list, 1_u32, 0_u32));
            assert_eq!(blocks(compute), 2 + outputs, "from the table into the backend");
            let list = puppet.get_words(4, 1)[0];
            let output = puppet.get_words(list + 8, 1)[0];
            let read = || puppet.ask::<_, ()>("data", (output, 0_u32));
            assert_eq!(blocks(read), 0, "from the table into the guest's memory");
            puppet.drop("tensor", output);
        }

        // The backend copies the parts. A blocking load gives it the guest's memory.
        puppet.reset();
        let (part,) = puppet.ask::<_, (u32,)>("allocate", (BYTES,));
        puppet.put_at(part, b"echo\n");
        let list = puppet.put_words(&[part, BYTES]);
        let copies = usize::from(setup.mode == Mode::Async);
        let load = || puppet.ask::<_, ()>("load", (list, 1_u32, ONNX, CPU, 0_u32));
        assert_eq!(blocks(load), 1 + copies, "from the guest's memory into the backend");
        puppet.result(0).unwrap();
    });
}
