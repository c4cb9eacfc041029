//! The protobuf messages of an ONNX model, with the fields that this backend reads.
//!
//! **This module is not covered by semantic versioning.** It is public so that tests and fuzz targets outside of the
//! package can build models, and any release may change it. The messages derive `Message` of the `prost` version that
//! this package depends on.
//!
//! The structs are written by hand from the field numbers of `onnx.proto`, so that the build needs no `protoc` and no
//! build script. The decoder skips all other fields (documentation, annotations, training) without storing them. The
//! memory of the decoded form is computed and charged before decoding starts, and prost limits nesting to 100 messages.
//!
//! Fields are optional as in the protobuf definition, and their names are those of `onnx.proto`.

use prost::Message;

use crate::tensor::budget::allocation;

/// A whole model.
#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    /// The version of the file format.
    #[prost(int64, optional, tag = "1")]
    pub ir_version: Option<i64>,
    /// The graph that an inference evaluates.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    /// The operator sets of the nodes, one for each domain.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// Operators that the model defines itself.
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<FunctionProto>,
}

/// An operator that a model defines by a graph.
#[derive(Clone, PartialEq, Message)]
pub struct FunctionProto {
    /// The operator's name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Names of the inputs inside of the graph.
    #[prost(string, repeated, tag = "4")]
    pub input: Vec<String>,
    /// Names of the outputs inside of the graph.
    #[prost(string, repeated, tag = "5")]
    pub output: Vec<String>,
    /// Names of the attributes without a default.
    #[prost(string, repeated, tag = "6")]
    pub attribute: Vec<String>,
    /// The operators of the graph.
    #[prost(message, repeated, tag = "7")]
    pub node: Vec<NodeProto>,
    /// The operator sets of the nodes.
    #[prost(message, repeated, tag = "9")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// The operator's domain.
    #[prost(string, optional, tag = "10")]
    pub domain: Option<String>,
    /// The attributes with a default, each with it.
    #[prost(message, repeated, tag = "11")]
    pub attribute_proto: Vec<AttributeProto>,
    /// Distinguishes functions of the same domain and name.
    #[prost(string, optional, tag = "13")]
    pub overload: Option<String>,
}

/// One operator set.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    /// The domain; empty for ai.onnx.
    #[prost(string, optional, tag = "1")]
    pub domain: Option<String>,
    /// The version.
    #[prost(int64, optional, tag = "2")]
    pub version: Option<i64>,
}

/// Nodes, weights, inputs and outputs: a model's graph, or one in an attribute.
#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    /// The operators.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    /// A name.
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
    /// Constant tensors, most of them weights.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    /// The inputs, which may include initializers.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// The outputs.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
    /// Sparse constant tensors. They are decoded as empty messages, so that a model that has them is refused.
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<EmptyProto>,
}

/// A message of which only the presence is read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct EmptyProto {}

/// One use of an operator.
#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    /// Names of the inputs; an empty name is an optional input that is left out.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of the outputs; an empty name is an output that is not used.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// The node's name, used in error messages.
    #[prost(string, optional, tag = "3")]
    pub name: Option<String>,
    /// The operator's name.
    #[prost(string, optional, tag = "4")]
    pub op_type: Option<String>,
    /// The attributes.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    /// The operator's domain; empty for ai.onnx.
    #[prost(string, optional, tag = "7")]
    pub domain: Option<String>,
    /// Selects one of several functions of the same domain and name.
    #[prost(string, optional, tag = "8")]
    pub overload: Option<String>,
}

/// A named constant of a node.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    /// The name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// One float.
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    /// One integer.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// One string.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub s: Option<Vec<u8>>,
    /// One tensor.
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    /// One graph.
    #[prost(message, optional, tag = "6")]
    pub g: Option<GraphProto>,
    /// Floats.
    #[prost(float, repeated, tag = "7")]
    pub floats: Vec<f32>,
    /// Integers.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// Strings.
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub strings: Vec<Vec<u8>>,
    /// The number of the attribute's type, which says which field has the value.
    #[prost(int32, optional, tag = "20")]
    pub r#type: Option<i32>,
    /// The attribute of the enclosing function whose value this attribute takes.
    #[prost(string, optional, tag = "21")]
    pub ref_attr_name: Option<String>,
}

/// A constant tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    /// The sizes, outermost first.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// The number of the element type (`TensorProto.DataType`).
    #[prost(int32, optional, tag = "2")]
    pub data_type: Option<i32>,
    /// Elements of type float.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// Elements of the integer types of up to 32 bits, booleans, and the bits of the 16-bit floats.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// Elements that are strings.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub string_data: Vec<Vec<u8>>,
    /// Elements of type int64.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// The name.
    #[prost(string, optional, tag = "8")]
    pub name: Option<String>,
    /// The elements as little-endian bytes, instead of any of the typed fields.
    #[prost(bytes = "vec", optional, tag = "9")]
    pub raw_data: Option<Vec<u8>>,
    /// Elements of type double.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// Elements of types uint32 and uint64.
    #[prost(uint64, repeated, tag = "11")]
    pub uint64_data: Vec<u64>,
    /// The entries `location`, `offset` and `length` of data in another file.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// 1 if the data is in another file, 0 or absent otherwise.
    #[prost(int32, optional, tag = "14")]
    pub data_location: Option<i32>,
}

impl TensorProto {
    /// The most bytes that the elements take in memory.
    pub(crate) fn bytes(&self) -> usize {
        let raw = self.raw_data.as_ref().map_or(0, Vec::len);
        let narrow = self.float_data.len() + self.int32_data.len();
        let wide = self.int64_data.len() + self.double_data.len() + self.uint64_data.len();
        allocation(raw) + allocation(4 * narrow) + allocation(8 * wide) + allocation(4 * self.string_data.len())
    }
}

/// A key and its value.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct StringStringEntryProto {
    /// The key.
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    /// The value.
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

/// The name and type of an input or output.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    /// The name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// The type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
}

/// The type of an input or output. Only tensors are supported.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    /// The type of a tensor; `None` for any other kind of type.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorTypeProto>,
}

/// Element type and shape of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorTypeProto {
    /// The number of the element type (`TensorProto.DataType`).
    #[prost(int32, optional, tag = "1")]
    pub elem_type: Option<i32>,
    /// The shape; `None` where the rank is open.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// The sizes of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    /// The sizes, outermost first.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<DimensionProto>,
}

/// One size, fixed or open.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct DimensionProto {
    /// The size, if it is fixed.
    #[prost(int64, optional, tag = "1")]
    pub dim_value: Option<i64>,
}
