//! Which public types may be sent to other threads and shared with them: as facts that the compiler checks.
#![cfg(not(any(loom, shuttle)))]

use std::cell::Cell;
use std::fmt::Debug;
use std::hash::Hash;

use graphpool::{BindError, GuestHandle, Handle, HandleTable, Kind, Pool, PoolStats};

const fn shared<T: Send + Sync + Debug + 'static>() {}
const fn value<T: Send + Sync + Debug + Copy + Eq + Hash + 'static>() {}

const _: () = {
    shared::<Pool<u8>>();
    shared::<HandleTable<u8>>();
    shared::<PoolStats>();
    shared::<BindError>();
    value::<GuestHandle>();
    value::<Kind>();
    // A handle is a number, whatever it names.
    value::<Handle<u8>>();
    value::<Handle<Cell<u8>>>();
};

#[cfg(feature = "nn")]
mod nn {
    use std::error::Error as StdError;

    use graphpool::backend::wire::Dialect;
    use graphpool::backend::{CancelToken, ComputeControl, LoadRequest};
    use graphpool::nn::{
        Bf16Bits, Compute, Encoding, Engine, EngineBuilder, EngineLimits, Error, ErrorCode, ErrorKind, F16Bits,
        GraphInfo, Guest, GuestBuilder, GuestPolicy, Limits, Load, ModelBytes, ModelError, ModelInfo, ModelSource,
        Stats, Target, Tensor, TensorDescription, TensorId, TensorType, TensorView,
    };

    use super::{Debug, Hash, shared, value};

    const fn error<T: StdError + Send + Sync + 'static>() {}
    const fn data<T: Send + Sync + Debug + Clone + Eq + 'static>() {}
    const fn keys<T: Send + Sync + Debug + Clone + Eq + Hash + 'static>() {}
    const fn moved<T: Send + Debug + 'static>() {}
    const fn future<T: Future + Send + Sync + Unpin + Debug + 'static>() {}

    const _: () = {
        shared::<Engine>();
        shared::<Guest>();
        shared::<GuestPolicy>();
        shared::<ModelSource>();
        shared::<CancelToken>();
        shared::<ComputeControl>();
        shared::<LoadRequest<'static>>();
        moved::<EngineBuilder>();
        moved::<GuestBuilder>();
        future::<Compute>();
        future::<Load>();
        shared::<ModelBytes>();
        future::<Compute<Vec<Tensor>>>();
        error::<Error>();
        error::<ModelError>();
        data::<Error>();
        data::<GraphInfo>();
        data::<ModelInfo>();
        data::<Stats>();
        keys::<Tensor>();
        keys::<TensorDescription>();
        value::<TensorView<'static>>();
        value::<TensorId<'static>>();
        value::<TensorType>();
        value::<F16Bits>();
        value::<Bf16Bits>();
        value::<Encoding>();
        value::<Target>();
        value::<ErrorKind>();
        value::<ErrorCode>();
        value::<Dialect>();
        value::<Limits>();
        value::<EngineLimits>();
    };

    #[cfg(feature = "conformance")]
    const _: () = {
        shared::<graphpool::nn::conformance::Sample>();
        shared::<graphpool::nn::conformance::Report>();
    };

    #[cfg(feature = "watch")]
    const _: () = shared::<graphpool::nn::DirectoryWatch>();
}
