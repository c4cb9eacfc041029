//! The table of operators: the documentation's copy is up to date, and the rows are consistent.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use crate::ops::operator::Fusion;
use crate::{Cost, LATEST_OPSET, Operator, operators};

/// The documentation's table.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/operators.md");

fn opsets(row: &Operator) -> String {
    let newest = if row.domain.is_empty() { LATEST_OPSET } else { i64::MAX };
    match (row.since, row.until) {
        (since, until) if until == newest => format!("{since} and later"),
        (since, until) if since == until => since.to_string(),
        (since, until) => format!("{since} to {until}"),
    }
}

fn inputs(row: &Operator) -> String {
    match row.inputs {
        (least, usize::MAX) => format!("{least} or more"),
        (least, most) if least == most => least.to_string(),
        (least, most) => format!("{least} to {most}"),
    }
}

fn table() -> String {
    let mut table = String::from(
        "| domain | operator | opsets | inputs | work | fused | device |\n| --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let rows: BTreeMap<_, _> = operators().map(|row| ((row.domain, row.name, row.since), row)).collect();
    for row in rows.values() {
        let domain = if row.domain.is_empty() { "ai.onnx" } else { row.domain };
        let cost = match row.cost {
            Cost::Free => "none",
            Cost::Linear => "linear",
            Cost::Heavy => "heavy",
            Cost::Unbounded => "unbounded",
        };
        let fused = match row.fusion {
            Fusion::None | Fusion::Packer(_) | Fusion::Quantization(_) => "",
            Fusion::Anchor(_) => "first",
            Fusion::Follower(_) => "after",
        };
        let device = if row.on_device() { "yes" } else { "" };
        let (name, opsets, inputs) = (row.name, opsets(row), inputs(row));
        let _ = writeln!(table, "| {domain} | `{name}` | {opsets} | {inputs} | {cost} | {fused} | {device} |");
    }
    table
}

/// `UPDATE_OPERATORS=1 cargo test -p graphpool-candle table` rewrites the file.
#[test]
fn the_documentation_has_the_table_of_the_code() {
    let table = table();
    if std::env::var_os("UPDATE_OPERATORS").is_some() {
        std::fs::write(FILE, &table).unwrap();
    }
    let file = std::fs::read_to_string(FILE).unwrap();
    assert!(file == table, "src/operators.md is not the table of the code: run this test with UPDATE_OPERATORS=1");
}

#[test]
fn no_two_rows_are_for_the_same_opset() {
    let mut seen = HashSet::new();
    for row in operators() {
        assert!(row.since <= row.until && row.inputs.0 <= row.inputs.1, "{}", row.name);
        for opset in row.since..=row.until {
            assert!(seen.insert((row.domain, row.name, opset)), "{} of opset {opset} has two rows", row.name);
        }
    }
}
