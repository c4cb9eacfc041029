//! Files that were changed at random in one of their fields, and loaded as models.
//!
//! Nothing catches panics here, so that a panic fails the test. `thousands_of_files_in_processes_of_their_own` runs 4,000
//! of them in child processes, so that an abort or a stack overflow is seen, too.

use super::writer::{Chance, TINY, Writer, model};
use crate::llm::graph::LanguageGraph;
use graphpool::backend::{BackendGraph as _, ComputeControl, TensorType, TensorView};
use std::time::{Duration, Instant};

/// Numbers at which arithmetic goes wrong.
const STRANGE: [u64; 16] = [
    0,
    1,
    2,
    3,
    31,
    33,
    255,
    256,
    65_535,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    u32::MAX as u64,
    1 << 62,
    i64::MAX as u64,
    u64::MAX,
];

fn strange(chance: &mut Chance) -> u64 {
    STRANGE[chance.below(STRANGE.len() as u64) as usize]
}

/// Changes one field of a file.
fn change(writer: &mut Writer, chance: &mut Chance) {
    let key = chance.below(writer.metadata.len() as u64) as usize;
    let tensor = chance.below(writer.tensors.len() as u64) as usize;
    let number = strange(chance);
    match chance.below(12) {
        0 => drop(writer.metadata.remove(key)),
        1 => drop(writer.tensors.remove(tensor)),
        2 => writer.metadata[key].1 = chance.below(15) as u32,
        3 | 4 => {
            // A number in place of another, in as many bytes.
            let bytes = &mut writer.metadata[key].2;
            let count = bytes.len().min(8);
            bytes[..count].copy_from_slice(&number.to_le_bytes()[..count]);
        }
        5 => {
            // The count of an array, or the second half of a string's length.
            let bytes = &mut writer.metadata[key].2;
            if let Some(count) = bytes.get_mut(4..12) {
                count.copy_from_slice(&number.to_le_bytes());
            }
        }
        6 => {
            let bytes = &mut writer.metadata[key].2;
            let at = chance.below(bytes.len() as u64) as usize;
            bytes[at] = chance.next() as u8;
        }
        7 => {
            let other = chance.below(writer.metadata.len() as u64) as usize;
            writer.metadata[key].2 = writer.metadata[other].2.clone();
        }
        8 => {
            let dims = &mut writer.tensors[tensor].1;
            let dim = chance.below(dims.len() as u64) as usize;
            dims[dim] = number;
        }
        9 => writer.tensors[tensor].2 = chance.below(45) as u32,
        10 => writer.tensors[tensor].1.push(number),
        _ => {
            let other = chance.below(writer.tensors.len() as u64) as usize;
            writer.tensors[tensor].0 = writer.tensors[other].0.clone();
        }
    }
}

/// Loads a file, and generates a few tokens if that succeeds. Returns whether it did.
fn attack(bytes: &[u8]) -> bool {
    let Ok(graph) = LanguageGraph::load(bytes, b"", b"", 1 << 22) else { return false };
    assert!(graph.memory() <= 1 << 22);
    let mut context = graph.init_context().unwrap();
    let options = br#"{"n-predict": 3, "temp": 0, "ctx-size": 64}"#;
    let view = |bytes| (u32::try_from(<[u8]>::len(bytes)).unwrap(), bytes);
    for (index, (length, bytes)) in [(1, view(options)), (0, view(b"the cat in the hat"))] {
        if context.set_input(index, TensorView::new(&[length], TensorType::U8, bytes).unwrap()).is_err() {
            return false;
        }
    }
    let control = ComputeControl::default()
        .with_memory_limit(1 << 24)
        .with_context_memory_limit(1 << 24)
        .with_deadline(Instant::now() + Duration::from_secs(10));
    let _ = context.compute(&control);
    assert!(context.memory() <= 1 << 24);
    true
}

/// Attacks with the files of some rounds. Returns how many loaded.
fn attack_with(rounds: std::ops::Range<usize>) -> usize {
    let mut loaded = 0;
    for round in rounds {
        let mut chance = Chance(round as u64 + 1);
        let architecture = ["llama", "qwen2", "qwen3", "gemma3", "phi3"][round % 5];
        let mut writer = model(architecture, TINY, 0, 1);
        for _ in 0..=chance.below(2) {
            change(&mut writer, &mut chance);
        }
        let mut bytes = if chance.below(4) == 0 {
            let (victim, offset) = (chance.below(writer.tensors.len() as u64) as usize, strange(&mut chance));
            writer.with_offsets(|index, original| if index == victim { offset } else { original })
        } else {
            writer.finish()
        };
        match chance.below(8) {
            0 => bytes.truncate(chance.below(bytes.len() as u64) as usize),
            1 => {
                let at = chance.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << chance.below(8);
            }
            _ => {}
        }
        loaded += usize::from(attack(&bytes));
    }
    loaded
}

#[test]
fn files_with_a_changed_field_load_or_are_refused() {
    let loaded = attack_with(0..300);
    // Most changes are noticed; some, such as a missing optional key, are not.
    assert!((10..200).contains(&loaded), "{loaded} files loaded");
}

/// The rounds of a child process.
const ROUNDS: &str = "GRAPHPOOL_MUTATIONS";

#[test]
fn thousands_of_files_in_processes_of_their_own() {
    if let Ok(first) = std::env::var(ROUNDS) {
        let first: usize = first.parse().unwrap();
        println!("{} of 250 files loaded", attack_with(first..first + 250));
        return;
    }
    let own = std::env::current_exe().unwrap();
    let name = "tests::gguf::mutations::thousands_of_files_in_processes_of_their_own";
    for first in (0..4000).step_by(250) {
        let mut child = std::process::Command::new(&own);
        let output = child.args([name, "--exact", "--nocapture"]).env(ROUNDS, first.to_string()).output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        // It has run, and has not ended by a signal.
        assert!(output.status.success() && text.contains(" of 250 files loaded"), "from round {first} on: {output:?}");
    }
}
