//! Sorts the nodes of a graph topologically, and names a node for error messages.

use crate::format::messages::NodeProto;
use crate::quote::quote;
use graphpool::backend::Error;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// The most names that the subgraphs of a model can read and define. A name counts once for each graph around it.
pub(crate) const MAX_SUBGRAPH_NAMES: usize = 1 << 20;

/// The operator, name and opset of a node, for error messages.
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

/// Appends the names that a node reads, including those that its subgraphs capture. `subgraph_names` counts the names
/// in the subgraphs.
fn reads<'g>(node: &'g NodeProto, names: &mut Vec<&'g str>, subgraph_names: &mut usize) -> Result<(), Error> {
    names.extend(node.input.iter().map(String::as_str).filter(|name| !name.is_empty()));
    for graph in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
        // A subgraph can define a name that exists outside too, for example the name of the node's output.
        let mut own: HashSet<&str> = graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
        own.extend(graph.input.iter().filter_map(|input| input.name.as_deref()));
        own.extend(graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref()));
        let count = graph.node.iter().map(|node| node.input.len() + 1).sum::<usize>() + graph.output.len();
        *subgraph_names = subgraph_names.saturating_add(count).saturating_add(own.len());
        if *subgraph_names > MAX_SUBGRAPH_NAMES {
            let why =
                format!("the model's subgraphs have more than {MAX_SUBGRAPH_NAMES} names, the most that are supported");
            return Err(Error::too_large(why));
        }
        let mut inside = Vec::new();
        for node in &graph.node {
            reads(node, &mut inside, subgraph_names)?;
        }
        inside.extend(graph.output.iter().filter_map(|output| output.name.as_deref()));
        names.extend(inside.into_iter().filter(|name| !own.contains(name)));
    }
    Ok(())
}

/// The indexes of the nodes in a topological order: each node comes after the producers of what it reads.
///
/// Of several nodes that are ready, the first in the file comes first; so a file that is in order keeps its order.
/// `subgraph_names` counts the names in subgraphs over the whole model.
pub(crate) fn order(nodes: &[NodeProto], subgraph_names: &mut usize) -> Result<Vec<usize>, Error> {
    let outputs = nodes.iter().map(|node| node.output.len()).sum();
    let mut producers = HashMap::with_capacity(outputs);
    for (index, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            if producers.insert(output.as_str(), index).is_some() {
                return Err(Error::invalid_encoding(format!("value {} is defined twice", quote(output))));
            }
        }
    }
    // An edge goes from the producer of a value to each of its readers.
    let mut waits_for = vec![0_usize; nodes.len()];
    let mut edges = Vec::with_capacity(nodes.iter().map(|node| node.input.len()).sum());
    let mut names = Vec::new();
    for (index, (node, waits)) in nodes.iter().zip(&mut waits_for).enumerate() {
        names.clear();
        reads(node, &mut names, subgraph_names)?;
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
        return Err(Error::invalid_encoding(format!("{label}: the node is part of a cycle or depends on one")));
    }
    Ok(order)
}
