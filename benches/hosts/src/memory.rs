//! The memory of one store and of a hundred that use a model of 3 MB.

use std::fs;

use wasmtime::error::Context as _;
use wasmtime::{Engine, Result, bail, format_err};

use crate::child;
use crate::model::Models;
use crate::puppet::{self, Puppet};
use crate::way::{Ours, Preload, Shared, Way};

/// Prints the table. Each figure is that of a process of its own.
pub fn compare() -> Result<()> {
    println!("| memory with a model of 3 MB | one store | 100 stores | times one |\n| --- | ---: | ---: | ---: |");
    for (way, what) in [
        (Ours::NAME, "here"),
        (Preload::NAME, "`preload` for each store"),
        (Shared::NAME, "an embedder's registry of shared graphs"),
    ] {
        let bytes = |stores: &str| -> Result<f64> {
            let output = child::run(&["memory", way, stores])?;
            output.stdout.trim().parse::<f64>().with_context(|| format!("{way}: {}", output.stderr))
        };
        let (one, all) = (bytes("1")?, bytes("100")?);
        println!("| {what} | {:.1} MB | {:.1} MB | {:.2} |", one / 1e6, all / 1e6, all / one);
    }
    println!();
    Ok(())
}

/// Prints the bytes by which this process grows where it has that many stores.
pub fn measure(models: &Models, way: &str, stores: usize) -> Result<()> {
    let bytes = match way {
        Ours::NAME => growth::<Ours>(models, stores)?,
        Preload::NAME => growth::<Preload>(models, stores)?,
        Shared::NAME => growth::<Shared>(models, stores)?,
        _ => bail!("no way is named {way:?}"),
    };
    println!("{bytes}");
    Ok(())
}

/// What the model and the stores take: each has a context, and has inferred once.
fn growth<W: Way>(models: &Models, stores: usize) -> Result<u64> {
    let pre = puppet::link::<W>(&Engine::default())?;
    // onnxruntime and candle start what they have once for the process.
    Puppet::open(&pre, &W::new(&[&models.digits])?, &models.digits)?.infer()?;
    let before = resident()?;
    let way = W::new(&[&models.large])?;
    let mut puppets = Vec::new();
    for _ in 0..stores {
        let mut puppet = Puppet::open(&pre, &way, &models.large)?;
        puppet.infer()?;
        puppets.push(puppet);
    }
    Ok(resident()?.saturating_sub(before))
}

/// The memory that the process has, in bytes.
fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|number| number.trim().parse().ok());
    kibibytes.map(|number: u64| number * 1024).ok_or_else(|| format_err!("the system tells no VmRSS"))
}
