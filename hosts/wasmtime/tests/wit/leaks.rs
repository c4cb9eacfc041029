//! Instances that come and go leave nothing behind.

use graphpool::nn::{Encoding, Engine, ModelSource, Target};

use crate::backend::Words;
use crate::puppet::{MODES, Puppet, code};
use crate::setup::{refused, settle};

#[test]
fn ten_thousand_instances_leave_nothing_behind() {
    let (words, _gate) = Words::new();
    let engine = Engine::new(words);
    engine.register_model("echo", ModelSource::bytes(b"echo"), Encoding::Onnx, Target::Cpu).unwrap();
    let graphs = |engine: &Engine| engine.list_graphs().len();
    for round in 0..5_000_u32 {
        for mode in MODES {
            let mut puppet = Puppet::new(mode, engine.guest());
            let graph = puppet.load_by_name("echo").unwrap();
            let context = puppet.context(graph).unwrap();
            let input = puppet.bytes(&round.to_le_bytes());
            let outputs = puppet.compute(context, &[("x", input)]).unwrap();
            refused(puppet.load_by_name("nothing"), code::NOT_FOUND, "nothing");
            if round % 2 == 0 {
                assert_eq!(puppet.parts(outputs[0].1).2, round.to_le_bytes());
                puppet.drop("tensor", outputs[0].1);
                puppet.drop("context", context);
                puppet.drop("graph", graph);
                assert!(puppet.store.data().table.is_empty());
                assert_eq!(engine.stats().contexts, 0);
            }
        }
    }
    settle(&engine);
    assert_eq!(graphs(&engine), 1);
}
