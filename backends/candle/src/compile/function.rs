//! Functions that a model defines: each call is compiled as the function's nodes, with a scope of its own for names.
//!
//! A small file can expand to any number of nodes this way. So expansion is bounded: in the nesting depth, in the total
//! number of nodes, and in the total size of their attributes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::exec::plan::Step;
use crate::format::messages::{AttributeProto, FunctionProto, NodeProto, OperatorSetIdProto};
use crate::ops::operator::LATEST_OPSET;
use crate::quote::quote;
use graphpool::backend::Error;

/// The deepest nesting of graphs and function calls.
pub(crate) const MAX_DEPTH: usize = 40;

/// The most nodes that all function calls of a model expand to.
const MAX_EXPANDED: usize = 1 << 17;

/// The version of each operator set that is imported, by domain.
pub(crate) type Opsets<'a> = HashMap<&'a str, i64>;

/// The normalized name of a domain: empty for ai.onnx.
pub(crate) fn domain(domain: Option<&str>) -> &str {
    match domain.unwrap_or("") {
        "ai.onnx" => "",
        domain => domain,
    }
}

/// The operator sets that a model or a function imports.
pub(crate) fn opsets(imports: &[OperatorSetIdProto]) -> Result<Opsets<'_>, Error> {
    let mut opsets = HashMap::new();
    for import in imports {
        let domain = domain(import.domain.as_deref());
        let version = import.version.unwrap_or(1);
        if domain.is_empty() && !(1..=LATEST_OPSET).contains(&version) {
            let why = format!("the model needs opset {version} of ai.onnx, and 1 to {LATEST_OPSET} are supported");
            return Err(Error::unsupported(why));
        }
        // Tools that merge models write an import twice.
        if let Some(before) = opsets.insert(domain, version).filter(|&before| before != version) {
            let why = format!("domain {} is imported in two versions: {before} and {version}", quote(domain));
            return Err(Error::invalid_encoding(why));
        }
    }
    Ok(opsets)
}

/// A function and the operator sets that it imports.
pub(crate) struct Function<'a> {
    pub(crate) proto: &'a FunctionProto,
    pub(crate) opsets: Opsets<'a>,
}

/// The functions of a model, by domain, name and overload.
pub(crate) struct Functions<'a>(HashMap<[String; 3], Function<'a>>);

impl<'a> Functions<'a> {
    pub(crate) fn new(protos: &'a [FunctionProto]) -> Result<Self, Error> {
        let mut functions = HashMap::with_capacity(protos.len());
        for proto in protos {
            let name = proto.name.as_deref().unwrap_or("");
            let overload = proto.overload.as_deref().unwrap_or("");
            let function = Function { proto, opsets: opsets(&proto.opset_import)? };
            match functions.entry([domain(proto.domain.as_deref()), name, overload].map(str::to_owned)) {
                Entry::Occupied(_) => {
                    return Err(Error::invalid_encoding(format!("function {} is defined twice", quote(name))));
                }
                Entry::Vacant(entry) => entry.insert(function),
            };
        }
        Ok(Self(functions))
    }

    /// The function that a node calls, if it calls one. Functions take precedence over operators of the same name.
    pub(crate) fn find(&self, node: &NodeProto) -> Option<&Function<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let name = node.op_type.as_deref().unwrap_or("");
        let key = [domain(node.domain.as_deref()), name, node.overload.as_deref().unwrap_or("")];
        self.0.get(&key.map(str::to_owned))
    }
}

/// The values of a function's attributes in one call, by name.
pub(crate) struct Bindings<'a>(HashMap<&'a str, &'a AttributeProto>);

impl<'a> Bindings<'a> {
    /// The attributes of the call `node`, and the function's defaults for the others.
    pub(crate) fn new(function: &'a FunctionProto, node: &'a NodeProto) -> Result<Self, Error> {
        let name = |attribute: &'a AttributeProto| attribute.name.as_deref().unwrap_or("");
        let mut bindings: HashMap<_, _> =
            function.attribute_proto.iter().map(|attribute| (name(attribute), attribute)).collect();
        for attribute in &node.attribute {
            let known = function.attribute.iter().any(|known| known == name(attribute));
            if !known && !bindings.contains_key(name(attribute)) {
                return Err(Error::unsupported(format!("attribute {} is not supported", quote(name(attribute)))));
            }
            if attribute.g.is_some() {
                return Err(Error::unsupported("an attribute of a function call that is a graph is not supported"));
            }
            bindings.insert(name(attribute), attribute);
        }
        Ok(Self(bindings))
    }
}

/// A node of a function in which each attribute that refers to an attribute of the function has its value in this call.
pub(crate) fn bind_attributes<'n>(
    node: &'n NodeProto,
    bindings: Option<&Bindings<'_>>,
) -> Result<Cow<'n, NodeProto>, Error> {
    let referred = |attribute: &AttributeProto| {
        attribute.ref_attr_name.as_deref().filter(|name| !name.is_empty()).map(str::to_owned)
    };
    let Some(bindings) = bindings else { return Ok(Cow::Borrowed(node)) };
    if !node.attribute.iter().any(|attribute| referred(attribute).is_some()) {
        return Ok(Cow::Borrowed(node));
    }
    let mut attributes = Vec::with_capacity(node.attribute.len());
    for attribute in &node.attribute {
        let Some(name) = referred(attribute) else {
            // A graph is compiled from the original node, so it is not copied.
            let plain =
                AttributeProto { name: attribute.name.clone(), r#type: attribute.r#type, ..AttributeProto::default() };
            attributes.push(if attribute.g.is_some() { plain } else { attribute.clone() });
            continue;
        };
        // An attribute that the call leaves out and that has no default is left out of the node too.
        let Some(&given) = bindings.0.get(name.as_str()) else { continue };
        let types = [attribute.r#type.unwrap_or(0), given.r#type.unwrap_or(0)];
        if types[0] != types[1] && !types.contains(&0) {
            let why = format!("attribute {} has the wrong type", quote(&name));
            return Err(Error::invalid_encoding(why));
        }
        attributes.push(AttributeProto { name: attribute.name.clone(), ref_attr_name: None, ..given.clone() });
    }
    Ok(Cow::Owned(NodeProto {
        input: node.input.clone(),
        output: node.output.clone(),
        name: node.name.clone(),
        op_type: node.op_type.clone(),
        attribute: attributes,
        domain: node.domain.clone(),
        overload: node.overload.clone(),
    }))
}

/// The approximate size of a node's step and attributes.
fn approximate_bytes(node: &NodeProto) -> usize {
    let attribute = |attribute: &AttributeProto| {
        let tensor = attribute.t.as_ref().map_or(0, |tensor| {
            let numbers = tensor.float_data.len() + tensor.int32_data.len();
            let wide = tensor.int64_data.len() + tensor.double_data.len() + tensor.uint64_data.len();
            let strings = tensor.string_data.iter().map(Vec::len).sum::<usize>();
            tensor.raw_data.as_ref().map_or(0, Vec::len) + 4 * numbers + 8 * wide + strings
        });
        let strings = attribute.strings.iter().map(|string| string.len() + size_of::<Vec<u8>>()).sum::<usize>();
        let string = attribute.s.as_ref().map_or(0, Vec::len);
        tensor + strings + string + 4 * attribute.floats.len() + 8 * attribute.ints.len()
    };
    let names = (node.input.len() + node.output.len()) * size_of::<String>();
    size_of::<Step>() + names + node.attribute.iter().map(attribute).sum::<usize>()
}

/// Counts what the function calls of a model expand to.
pub(crate) struct Expansion {
    nodes: usize,
    bytes: usize,
    /// The most bytes.
    limit: usize,
}

impl Expansion {
    /// Nothing expanded yet, and a limit of `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { nodes: 0, bytes: 0, limit }
    }

    /// Counts the nodes of one more call.
    pub(crate) fn count(&mut self, nodes: &[NodeProto]) -> Result<(), Error> {
        self.nodes = self.nodes.saturating_add(nodes.len());
        if self.nodes > MAX_EXPANDED {
            let why = format!("the model's function calls expand to more than {MAX_EXPANDED} nodes, the most allowed");
            return Err(Error::too_large(why));
        }
        self.bytes = nodes.iter().map(approximate_bytes).fold(self.bytes, usize::saturating_add);
        if self.bytes > self.limit {
            let why =
                format!("the model's function calls expand to {} bytes, and the limit is {}", self.bytes, self.limit);
            return Err(Error::too_large(why));
        }
        Ok(())
    }
}
