//! Limits, as C sets them.

use std::ffi::c_void;
use std::ptr;
use std::time::Duration;

use graphpool::nn::{EngineLimits, Limits};
use graphpool_ffi::Plain;

use crate::resolver::{gp_free, gp_resolver};

/// What stands for no bound, in limits and times.
pub const GP_NO_LIMIT: u64 = u64::MAX;

/// The limits of one guest: gp_engine_options_default has the defaults, and zero is the bound 0. Each bound is
/// inclusive; GP_NO_LIMIT is none. A call past one gives GP_CODE_TOO_LARGE, past max_computes and max_loads
/// GP_CODE_BUSY, past max_compute_ms GP_CODE_TIMEOUT.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct gp_limits {
    /// Graph handles at one time.
    pub max_graphs: u64,
    /// Contexts at one time.
    pub max_contexts: u64,
    /// Bytes of the models that the guest has loaded from bytes.
    pub max_graph_bytes: u64,
    /// Bytes of one input tensor.
    pub max_tensor_bytes: u64,
    /// Dimensions of one input tensor.
    pub max_tensor_rank: u64,
    /// Bytes of the tensors of one compute.
    pub max_compute_bytes: u64,
    /// Computes at one time, running and waiting.
    pub max_computes: u64,
    /// Loads at one time that gp_load_start and gp_load_by_name_start have started.
    pub max_loads: u64,
    /// Bytes that the contexts hold between calls.
    pub max_context_bytes: u64,
    /// Bytes of a model's name.
    pub max_name_bytes: u64,
    /// Bytes of a guest's configuration of a model.
    pub max_config_bytes: u64,
    /// The longest time of a compute, its wait included, in milliseconds.
    pub max_compute_ms: u64,
}

/// The limits of all guests of an engine together. What would fit if others held less gives GP_CODE_BUSY, what is past
/// a bound by itself GP_CODE_TOO_LARGE.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct gp_engine_limits {
    /// Models in memory.
    pub max_graphs: u64,
    /// Contexts in memory.
    pub max_contexts: u64,
    /// Bytes of the models in memory.
    pub max_graph_bytes: u64,
    /// Bytes that the contexts hold between calls.
    pub max_context_bytes: u64,
    /// Computes that run at one time; at least 1.
    pub max_computing: u64,
    /// Computes that sleep at one time beside those that run, until others have worked for them, as those of a language
    /// model do. Each keeps a thread.
    pub max_suspended: u64,
    /// Computes that wait at one time.
    pub max_queued: u64,
    /// Names that a resolver has given.
    pub max_resolved_names: u64,
    /// Started loads that work at one time; at least 1.
    pub max_loading: u64,
    /// Started loads that wait at one time.
    pub max_queued_loads: u64,
}

/// The settings of an engine. gp_engine_options_default fills them.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct gp_engine_options {
    /// Over all guests.
    pub engine: gp_engine_limits,
    /// Of a guest that is created without limits of its own.
    pub guest: gp_limits,
    /// The upper bound of every guest's limits.
    pub ceiling: gp_limits,
    /// The most threads of one compute: 1 for the highest throughput of many guests, more for few guests with large
    /// models.
    pub threads: u32,
    /// 0.
    pub reserved: u32,
    /// gp_compute_start, gp_compute_single_start and gp_infer_start run a compute inside of the call, if nothing waits
    /// and the last ones of its graph took at most this long, in microseconds. 0 for never.
    pub inline_compute_us: u64,
    /// Asked for names that are not registered; may be null.
    pub resolve: gp_resolver,
    /// What resolve gets. It must live until resolve_free is called.
    pub resolve_data: *mut c_void,
    /// Called with resolve_data, once, when the engine asks no more: that may be after gp_engine_close has returned, on
    /// any thread. May be null.
    pub resolve_free: gp_free,
}

// SAFETY: integers.
unsafe impl Plain for gp_limits {}
// SAFETY: integers.
unsafe impl Plain for gp_engine_limits {}
// SAFETY: integers, a pointer, and a function that may be null.
unsafe impl Plain for gp_engine_options {}

impl Default for gp_engine_options {
    fn default() -> Self {
        Self {
            engine: (&EngineLimits::default()).into(),
            guest: (&Limits::default()).into(),
            ceiling: (&Limits::unlimited()).into(),
            threads: 1,
            reserved: 0,
            inline_compute_us: 0,
            resolve: None,
            resolve_data: ptr::null_mut(),
            resolve_free: None,
        }
    }
}

/// Converts limits both ways: each bound with its setter, and a time in milliseconds with its getter and setter.
macro_rules! converted {
    ($c:ident, $limits:ident, $($bound:ident $setter:ident,)* $(; $ms:ident $time:ident $time_setter:ident)?) => {
        impl From<&$limits> for $c {
            fn from(limits: &$limits) -> Self {
                Self { $($bound: limits.$bound() as u64,)* $($ms: milliseconds(limits.$time()),)? }
            }
        }

        impl From<$c> for $limits {
            fn from(limits: $c) -> Self {
                Self::default()
                    $(.$setter(usize::try_from(limits.$bound).unwrap_or(usize::MAX)))*
                    $(.$time_setter(time(limits.$ms).unwrap_or(Duration::MAX)))?
            }
        }
    };
}

converted! {
    gp_limits, Limits,
    max_graphs with_max_graphs,
    max_contexts with_max_contexts,
    max_graph_bytes with_max_graph_bytes,
    max_tensor_bytes with_max_tensor_bytes,
    max_tensor_rank with_max_tensor_rank,
    max_compute_bytes with_max_compute_bytes,
    max_computes with_max_computes,
    max_loads with_max_loads,
    max_context_bytes with_max_context_bytes,
    max_name_bytes with_max_name_bytes,
    max_config_bytes with_max_config_bytes,
    ; max_compute_ms max_compute_time with_max_compute_time
}

converted! {
    gp_engine_limits, EngineLimits,
    max_graphs with_max_graphs,
    max_contexts with_max_contexts,
    max_graph_bytes with_max_graph_bytes,
    max_context_bytes with_max_context_bytes,
    max_computing with_max_computing,
    max_suspended with_max_suspended,
    max_queued with_max_queued,
    max_resolved_names with_max_resolved_names,
    max_loading with_max_loading,
    max_queued_loads with_max_queued_loads,
}

/// A time in milliseconds; `None` for none.
pub(crate) fn time(milliseconds: u64) -> Option<Duration> {
    (milliseconds != GP_NO_LIMIT).then(|| Duration::from_millis(milliseconds))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(GP_NO_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_of_an_engine_is_its_own() {
        let limits = gp_engine_limits {
            max_graphs: 11,
            max_contexts: 12,
            max_graph_bytes: 13,
            max_context_bytes: 14,
            max_computing: 15,
            max_suspended: 16,
            max_queued: 17,
            max_resolved_names: 18,
            max_loading: 19,
            max_queued_loads: 20,
        };
        let wanted = EngineLimits::default()
            .with_max_graphs(11)
            .with_max_contexts(12)
            .with_max_graph_bytes(13)
            .with_max_context_bytes(14)
            .with_max_computing(15)
            .with_max_suspended(16)
            .with_max_queued(17)
            .with_max_resolved_names(18)
            .with_max_loading(19)
            .with_max_queued_loads(20);
        assert_eq!(EngineLimits::from(limits), wanted);
        let back = gp_engine_limits::from(&wanted);
        assert_eq!((back.max_computing, back.max_suspended, back.max_queued), (15, 16, 17));
        let unbounded = gp_engine_limits { max_suspended: GP_NO_LIMIT, ..limits };
        assert_eq!(EngineLimits::from(unbounded).max_suspended(), usize::MAX);
    }
}
