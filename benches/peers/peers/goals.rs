//! What the pool is to reach, in ratios of figures of one run, and whether it does.

use std::fmt::Write as _;

use crate::report::Figures;

/// Those that keep a removed entry's handle from naming a later one, be it only for the 2^20 uses of a slot after
/// which concurrent-slotmap's generations wrap. (sharded-slab's do after 8,191.)
const KEEPS_STALE_OUT: [&str; 6] =
    ["concurrent-slotmap", "rwlock-slotmap", "mutex-slotmap", "dashmap", "papaya", "scc"];

const PEERS: [&str; 8] =
    ["sharded-slab", "concurrent-slotmap", "rwlock-slotmap", "mutex-slotmap", "dashmap", "papaya", "scc", "arc-swap"];

/// The goals whose workloads were measured, each with the ratio and whether it is low enough.
pub fn table(figures: &Figures) -> String {
    let get = |threads, subject| figures.get("get-uniform-1k", threads, subject);
    let churn = |threads, subject| figures.get("insert-remove", threads, subject);
    let best_read = PEERS.into_iter().filter_map(|peer| get(1, peer)).min_by(f64::total_cmp);
    let best_churn =
        |threads| KEEPS_STALE_OUT.into_iter().filter_map(|peer| churn(threads, peer)).min_by(f64::total_cmp);
    let hot = |threads| figures.get("get-hot", threads, "graphpool-held");
    let rows = [
        ("get, guard held / Vec index", get(1, "graphpool-held"), get(1, "vec"), 4.0),
        ("get, re-pinned / Vec index", get(1, "graphpool-repin"), get(1, "vec"), 5.0),
        ("get, re-pinned / best of all peers", get(1, "graphpool-repin"), best_read, 0.25),
        ("get, pinned / sharded-slab", get(1, "graphpool-pin"), get(1, "sharded-slab"), 0.45),
        ("get of one handle, guard held, 2 threads / 1 thread", hot(2), hot(1), 1.1),
        ("guest table and pool / pool alone, guard held", get(1, "graphpool-table"), get(1, "graphpool-held"), 2.0),
        (
            "insert+remove, 1 thread / best peer that keeps stale handles out",
            churn(1, "graphpool-pin"),
            best_churn(1),
            1.2,
        ),
        ("insert+remove, 2 threads / best such peer", churn(2, "graphpool-pin"), best_churn(2), 1.0),
        ("insert+remove, 1 thread / sharded-slab", churn(1, "graphpool-pin"), churn(1, "sharded-slab"), 1.3),
    ];
    let mut text = String::from("| goal | ns | ns | ratio | at most | holds |\n|---|---:|---:|---:|---:|---|\n");
    for (goal, ours, theirs, bound) in rows {
        let (Some(ours), Some(theirs)) = (ours, theirs) else { continue };
        let ratio = ours / theirs;
        let holds = if ratio <= bound { "yes" } else { "no" };
        let _ = writeln!(text, "| {goal} | {ours:.2} | {theirs:.2} | {ratio:.2} | {bound} | {holds} |");
    }
    text
}
