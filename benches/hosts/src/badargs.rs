//! What each bad argument of the hostile guest does to the host.

use std::collections::BTreeMap;

use wasmtime::{Engine, Result, bail};

use crate::child;
use crate::model::Models;
use crate::programs::Program;
use crate::way::{Ours, Shared, Way};

/// Prints the table. Each case runs in a process of its own, which it may end.
pub fn compare(models: &Models) -> Result<()> {
    let list = Program::load(&Engine::default(), models, "hostile")?;
    let list = list.run(&Ours::new(&[&models.digits])?, models, &["list"])?;
    let mut kinds = [BTreeMap::<&str, usize>::new(), BTreeMap::new()];
    let mut rows = Vec::new();
    for (number, line) in list.lines().enumerate() {
        let (expected, name) = line.split_once('\t').unwrap_or_default();
        let mut cells = vec![name.to_owned(), expected.to_owned()];
        for (kinds, way) in kinds.iter_mut().zip([Ours::NAME, Shared::NAME]) {
            let (kind, what) = outcome(way, number, expected)?;
            *kinds.entry(kind).or_default() += 1;
            cells.push(what);
        }
        rows.push(format!("| {} |", cells.join(" | ")));
    }
    println!("| what a bad argument does, of {} | here | `wasmtime-wasi-nn` |\n| --- | ---: | ---: |", rows.len());
    for kind in KINDS {
        let [here, there] = kinds.each_ref().map(|kinds| kinds.get(kind).copied().unwrap_or_default());
        println!("| {kind} | {here} | {there} |");
    }
    println!("\n| case | expected errno | here | `wasmtime-wasi-nn` |\n| --- | ---: | --- | --- |");
    println!("{}", rows.join("\n"));
    Ok(())
}

const KINDS: [&str; 5] =
    ["the expected errno", "another errno", "success", "a trap of the guest", "a panic or abort of the host"];

/// What a case does: its kind and, in short, what.
fn outcome(way: &str, number: usize, expected: &str) -> Result<(&'static str, String)> {
    let output = child::run(&["case", way, &number.to_string()])?;
    let errno = output.stdout.trim().rsplit_once(": errno ").and_then(|(_, rest)| rest.split_once(','));
    Ok(match (output.code, errno) {
        (Some(0), Some((errno, _))) if errno == expected => (KINDS[0], errno.to_owned()),
        (Some(0), Some(("0", _))) => (KINDS[2], "0".to_owned()),
        (Some(0), Some((errno, _))) => (KINDS[1], errno.to_owned()),
        (Some(1), None) => (KINDS[3], "trap".to_owned()),
        (Some(101), None) => (KINDS[4], "panic".to_owned()),
        (None, None) => (KINDS[4], "abort".to_owned()),
        _ => bail!("{way}: case {number} printed {:?} and {:?}", output.stdout, output.stderr),
    })
}

/// Runs one case in one host, and prints what the guest does: a trap is this function's error.
pub fn run(models: &Models, way: &str, case: &str) -> Result<()> {
    match way {
        Ours::NAME => run_in::<Ours>(models, case),
        Shared::NAME => run_in::<Shared>(models, case),
        _ => bail!("no way is named {way:?}"),
    }
}

fn run_in<W: Way>(models: &Models, case: &str) -> Result<()> {
    let program = Program::<W>::load(&Engine::default(), models, "hostile")?;
    let output = program.run(&W::new(&[&models.digits])?, models, &["digits", "/digits/digits.onnx", case])?;
    print!("{output}");
    Ok(())
}
