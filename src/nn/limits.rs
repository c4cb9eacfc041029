//! What one guest may have and ask for.

/// Bounds of one guest. Each is inclusive: a guest may have exactly as much as it says.
///
/// Past a bound a call gives [`TooLarge`](super::ErrorKind::TooLarge) with the value and the bound in its message,
/// before anything is allocated for it. `usize::MAX` is no bound.
///
/// ```
/// use graphpool::nn::Limits;
///
/// let limits = Limits::default().graphs(2).contexts(8).model_bytes(64 << 20);
/// assert_eq!(limits.max_contexts(), 8);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    graphs: usize,
    contexts: usize,
    model_bytes: usize,
    tensor_bytes: usize,
    tensor_rank: usize,
    compute_memory: usize,
    name_bytes: usize,
}

impl Default for Limits {
    /// 64 graphs, 256 contexts, 1 GiB of models, tensors of 256 MiB and 16 dimensions, 1 GiB for a compute, names of
    /// 256 bytes.
    fn default() -> Self {
        Self {
            graphs: 64,
            contexts: 256,
            model_bytes: 1 << 30,
            tensor_bytes: 256 << 20,
            tensor_rank: 16,
            compute_memory: 1 << 30,
            name_bytes: 256,
        }
    }
}

macro_rules! bounds {
    ($($(#[doc = $doc:expr])* $field:ident $getter:ident),* $(,)?) => {
        impl Limits {
            /// No bound on anything: for guests that are trusted like the host itself.
            #[must_use]
            pub const fn unlimited() -> Self {
                Self { $($field: usize::MAX),* }
            }

            $(
                $(#[doc = $doc])*
                #[must_use]
                pub const fn $field(mut self, bound: usize) -> Self {
                    self.$field = bound;
                    self
                }

                #[doc = concat!("The bound that [`", stringify!($field), "`](Self::", stringify!($field), ") sets.")]
                #[must_use]
                pub const fn $getter(&self) -> usize {
                    self.$field
                }
            )*
        }
    };
}

bounds! {
    /// Graph handles that the guest may hold at one time, loaded and by name together.
    graphs max_graphs,
    /// Contexts that the guest may hold at one time; one that a call still uses counts until that call ends.
    contexts max_contexts,
    /// Bytes of the models that the guest has loaded itself, as their backend counts them
    /// ([`BackendGraph::memory`](crate::backend::BackendGraph::memory)). A model counts until neither its handle nor
    /// a context of it is left. Named models are the host's, and count for no guest.
    model_bytes max_model_bytes,
    /// Bytes of the data of one input tensor.
    tensor_bytes max_tensor_bytes,
    /// Dimensions of one input tensor.
    tensor_rank max_tensor_rank,
    /// Bytes of tensors, intermediate ones and outputs together, that one compute may have alive at one time; the
    /// backend keeps to it.
    compute_memory max_compute_memory,
    /// Bytes of a model's name.
    name_bytes max_name_bytes,
}
