//! The order in which the nodes of a graph run, and how messages name a node.

use crate::format::messages::NodeProto;
use crate::quote::quote;
use graphpool::backend::Error;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// Names that subgraphs may read and give, each counted once for every graph around.
pub(crate) const MAX_NESTED: usize = 1 << 20;

/// An operator, its node and its opset, for messages.
pub(crate) fn label(node: &NodeProto, domain: &str, opset: Option<i64>) -> String {
    use std::fmt::Write as _;
    let mut label: String = node.op_type.as_deref().unwrap_or("").chars().take(40).collect();
    if !domain.is_empty() {
        label = format!("{label} of {}", quote(domain));
    }
    // The first output names a node that has no name.
    let name = node.name.as_deref().filter(|name| !name.is_empty());
    if let Some(name) = name.or_else(|| node.output.first().map(String::as_str)) {
        label = format!("{label} {}", quote(name));
    }
    if let Some(opset) = opset {
        // Writing to a string can't fail.
        let _ = write!(label, " (opset {opset})");
    }
    label
}

/// The names that a node reads, those that its subgraphs take from outside included; `nested` counts what is in these.
fn reads<'g>(node: &'g NodeProto, names: &mut Vec<&'g str>, nested: &mut usize) -> Result<(), Error> {
    names.extend(node.input.iter().map(String::as_str).filter(|name| !name.is_empty()));
    for graph in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
        // A name of the subgraph's own may be that of any value outside: of the node's output, where models are merged.
        let mut own: HashSet<&str> = graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
        own.extend(graph.input.iter().filter_map(|input| input.name.as_deref()));
        own.extend(graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref()));
        let count = graph.node.iter().map(|node| node.input.len() + 1).sum::<usize>() + graph.output.len();
        *nested = nested.saturating_add(count).saturating_add(own.len());
        if *nested > MAX_NESTED {
            return Err(Error::too_large(format!("the model's subgraphs name more than {MAX_NESTED} values")));
        }
        let mut inside = Vec::new();
        for node in &graph.node {
            reads(node, &mut inside, nested)?;
        }
        inside.extend(graph.output.iter().filter_map(|output| output.name.as_deref()));
        names.extend(inside.into_iter().filter(|name| !own.contains(name)));
    }
    Ok(())
}

/// The nodes in an order in which each comes after what it reads; the order of the file, where that is one.
pub(crate) fn order(nodes: &[NodeProto], nested: &mut usize) -> Result<Vec<usize>, Error> {
    let outputs = nodes.iter().map(|node| node.output.len()).sum();
    let mut producers = HashMap::with_capacity(outputs);
    for (index, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            if producers.insert(output.as_str(), index).is_some() {
                return Err(Error::invalid_encoding(format!("{} is defined twice", quote(output))));
            }
        }
    }
    // Who makes what is read, and who reads it.
    let mut waits_for = vec![0_usize; nodes.len()];
    let mut edges = Vec::with_capacity(nodes.iter().map(|node| node.input.len()).sum());
    let mut names = Vec::new();
    for (index, (node, waits)) in nodes.iter().zip(&mut waits_for).enumerate() {
        names.clear();
        reads(node, &mut names, nested)?;
        names.sort_unstable();
        names.dedup();
        for &producer in names.iter().filter_map(|name| producers.get(name)) {
            *waits += 1;
            edges.push((producer, index));
        }
    }
    drop(producers);
    edges.sort_unstable();
    let readers = |producer: usize| {
        let first = edges.partition_point(|&(of, _)| of < producer);
        edges.iter().skip(first).take_while(move |&&(of, _)| of == producer).map(|&(_, reader)| reader)
    };
    let ready = waits_for.iter().enumerate().filter(|(_, waits)| **waits == 0);
    let mut ready: BinaryHeap<_> = ready.map(|(index, _)| Reverse(index)).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for reader in readers(index) {
            if let Some(waits) = waits_for.get_mut(reader) {
                *waits -= 1;
                if *waits == 0 {
                    ready.push(Reverse(reader));
                }
            }
        }
    }
    if order.len() < nodes.len() {
        let stuck = waits_for.iter().position(|&waits| waits > 0).and_then(|index| nodes.get(index));
        let label = stuck.map(|node| label(node, "", None)).unwrap_or_default();
        return Err(Error::invalid_encoding(format!("{label}: part of a cycle, or behind one")));
    }
    Ok(order)
}
