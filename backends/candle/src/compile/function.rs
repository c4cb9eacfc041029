//! Operators that a model defines itself, by a graph: each use is compiled as the graph's nodes in its place.
//!
//! The nodes of a use have names of their own, so that none has to be made up. A file of a few bytes can ask for any
//! number of nodes this way, which is why uses are bounded: in the depth to which they are nested, in the nodes that
//! all of them come to, and in what their attributes take.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::exec::plan::Step;
use crate::format::messages::{AttributeProto, FunctionProto, NodeProto, OperatorSetIdProto};
use crate::ops::operator::LATEST_OPSET;
use crate::quote::quote;
use graphpool::backend::Error;

/// Graphs and uses of functions inside of each other.
pub(crate) const MAX_DEPTH: usize = 40;

/// Nodes that the uses of functions may come to.
const MAX_EXPANDED: usize = 1 << 17;

/// Versions by domain.
pub(crate) type Opsets<'a> = HashMap<&'a str, i64>;

/// A domain's name; that of ai.onnx is empty.
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
            let why = format!("the model is of opset {version}; 1 to {LATEST_OPSET} are known here");
            return Err(Error::unsupported(why));
        }
        // Tools that merge models repeat what both import.
        if let Some(before) = opsets.insert(domain, version).filter(|&before| before != version) {
            let why = format!("two operator sets for the domain {}: {before} and {version}", quote(domain));
            return Err(Error::invalid_encoding(why));
        }
    }
    Ok(opsets)
}

/// One function, and the operator sets of its nodes.
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
                    return Err(Error::invalid_encoding(format!("the function {} is defined twice", quote(name))));
                }
                Entry::Vacant(entry) => entry.insert(function),
            };
        }
        Ok(Self(functions))
    }

    pub(crate) fn find(&self, node: &NodeProto) -> Option<&Function<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let name = node.op_type.as_deref().unwrap_or("");
        let key = [domain(node.domain.as_deref()), name, node.overload.as_deref().unwrap_or("")];
        self.0.get(&key.map(str::to_owned))
    }
}

/// What a use gives for the attributes of its function.
pub(crate) struct Bindings<'a>(HashMap<&'a str, &'a AttributeProto>);

impl<'a> Bindings<'a> {
    pub(crate) fn new(function: &'a FunctionProto, node: &'a NodeProto) -> Result<Self, Error> {
        let name = |attribute: &'a AttributeProto| attribute.name.as_deref().unwrap_or("");
        let mut bindings: HashMap<_, _> =
            function.attribute_proto.iter().map(|attribute| (name(attribute), attribute)).collect();
        for attribute in &node.attribute {
            let known = function.attribute.iter().any(|known| known == name(attribute));
            if !known && !bindings.contains_key(name(attribute)) {
                return Err(Error::unsupported(format!("attribute {}", quote(name(attribute)))));
            }
            if attribute.g.is_some() {
                return Err(Error::unsupported("a graph as an attribute of a function"));
            }
            bindings.insert(name(attribute), attribute);
        }
        Ok(Self(bindings))
    }
}

/// The node with what its function's use gives in place of the attributes that refer to it.
pub(crate) fn bound<'n>(node: &'n NodeProto, bindings: Option<&Bindings<'_>>) -> Result<Cow<'n, NodeProto>, Error> {
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
            // Its graph is compiled from where it is.
            let plain =
                AttributeProto { name: attribute.name.clone(), r#type: attribute.r#type, ..AttributeProto::default() };
            attributes.push(if attribute.g.is_some() { plain } else { attribute.clone() });
            continue;
        };
        // An attribute that the use leaves out, and that has no default, is left out here too.
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

/// What a node takes in a plan, about: of a function's it is counted for each use.
fn weight(node: &NodeProto) -> usize {
    let attribute = |attribute: &AttributeProto| {
        let tensor = attribute.t.as_ref().map_or(0, |tensor| {
            let numbers = tensor.float_data.len() + tensor.int32_data.len();
            let wide = tensor.int64_data.len() + tensor.double_data.len() + tensor.uint64_data.len();
            let texts = tensor.string_data.iter().map(Vec::len).sum::<usize>();
            tensor.raw_data.as_ref().map_or(0, Vec::len) + 4 * numbers + 8 * wide + texts
        });
        let strings = attribute.strings.iter().map(|text| text.len() + size_of::<Vec<u8>>()).sum::<usize>();
        let string = attribute.s.as_ref().map_or(0, Vec::len);
        tensor + strings + string + 4 * attribute.floats.len() + 8 * attribute.ints.len()
    };
    let names = (node.input.len() + node.output.len()) * size_of::<String>();
    size_of::<Step>() + names + node.attribute.iter().map(attribute).sum::<usize>()
}

/// What the uses of functions have come to.
pub(crate) struct Expansion {
    nodes: usize,
    bytes: usize,
    /// Bytes that they may take.
    pub(crate) limit: usize,
}

impl Expansion {
    pub(crate) fn new(limit: usize) -> Self {
        Self { nodes: 0, bytes: 0, limit }
    }

    pub(crate) fn count(&mut self, nodes: &[NodeProto]) -> Result<(), Error> {
        self.nodes = self.nodes.saturating_add(nodes.len());
        if self.nodes > MAX_EXPANDED {
            return Err(Error::too_large(format!("the model's functions come to more than {MAX_EXPANDED} nodes")));
        }
        self.bytes = nodes.iter().map(weight).fold(self.bytes, usize::saturating_add);
        if self.bytes > self.limit {
            let why = format!("the model's functions come to {} bytes, the limit is {}", self.bytes, self.limit);
            return Err(Error::too_large(why));
        }
        Ok(())
    }
}
