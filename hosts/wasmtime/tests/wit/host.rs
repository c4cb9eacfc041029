//! What the host decides: the target, the end of a guest.

use std::thread;

use graphpool_wasmtime::WasiNnCtx;

use crate::backend::Event;
use crate::puppet::{CPU, Data, ONNX, Puppet, code};
use crate::setup::{each, refused};

#[test]
fn a_model_for_the_gpu_falls_back_to_the_cpu_only_if_the_host_says_so() {
    each(|setup| {
        for falls_back in [false, true] {
            let mut data = Data::new(setup.engine.guest());
            data.nn = WasiNnCtx::new(setup.engine.guest()).with_fallback_to_cpu(falls_back);
            let mut puppet = Puppet::with(setup.mode, data);
            for target in [1, 2] {
                let loaded = puppet.load(&[b"echo"], ONNX, target);
                if falls_back {
                    puppet.context(loaded.unwrap()).unwrap();
                } else {
                    refused(loaded, code::UNSUPPORTED_OPERATION, "target");
                }
                // An encoding without a backend stays unsupported.
                refused(puppet.load(&[b"echo"], 0, target), code::UNSUPPORTED_OPERATION, "openvino");
            }
            puppet.load(&[b"echo"], ONNX, CPU).unwrap();
        }
    });
}

#[test]
fn a_host_ends_a_guests_compute_from_another_thread() {
    each(|setup| {
        let mut puppet = setup.puppet();
        let context = puppet.open("wait");
        let guest = puppet.store.data().nn.guest().clone();
        thread::scope(|scope| {
            let computes = scope.spawn(|| puppet.compute(context, &[]));
            assert_eq!(setup.gate.events.recv(), Ok(Event::Began));
            assert_eq!(guest.cancel_all(), 1);
            refused(computes.join().unwrap(), code::RUNTIME_ERROR, "cancelled");
        });
        assert_eq!(setup.gate.events.recv(), Ok(Event::Ended));
    });
}

#[test]
fn a_closed_guest_gets_errors_and_no_trap() {
    each(|setup| {
        let mut puppet = setup.puppet();
        let graph = puppet.words("echo").unwrap();
        let context = puppet.context(graph).unwrap();
        let before = puppet.bytes(&[1]);
        puppet.store.data().nn.guest().close();
        refused(puppet.load_by_name("echo"), code::RUNTIME_ERROR, "the guest is closed");
        refused(puppet.words("echo"), code::RUNTIME_ERROR, "the guest is closed");
        refused(puppet.context(graph), code::RUNTIME_ERROR, "the guest is closed");
        refused(puppet.echo(context, "x", before), code::RUNTIME_ERROR, "the guest is closed");
        let after = puppet.bytes(&[2]);
        refused(puppet.echo(context, "x", after), code::RUNTIME_ERROR, "the guest is closed");
        puppet.drop("context", context);
        puppet.drop("graph", graph);
    });
}
