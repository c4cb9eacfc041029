//! Tests of the backend as a whole, on models that they build with [`builder`].
//!
//! * Results of operators: `families`, `operators`, `silent`, `corners`, `differential`, `quantized`, `nearest`,
//!   `filters`, `newest`, `vectors` (kernels beside plain loops), `contrib` (com.microsoft), `learning` (ai.onnx.ml).
//! * Element types: `doubles`, `narrow`, `codes`, `nans`.
//! * Features of files: `loading`, `defaults`, `external`, `function`.
//! * Execution: `first`, `fused`, `layouts`, `threaded`, `random`, `profiled`, `kept`.
//! * Hostile models and bounds: `hostile`, `strange`, `bounds`, `regressions` (findings of fuzzing).
//! * The table of operators: `table`.
//! * Language models: `gguf` (the file), `llm`.

mod bounds;
mod builder;
mod codes;
mod contrib;
mod corners;
mod defaults;
mod differential;
mod doubles;
mod external;
mod families;
mod filters;
mod first;
mod function;
mod fused;
#[cfg(feature = "ggml")]
mod gguf;
mod hostile;
mod kept;
mod layouts;
mod learning;
#[cfg(feature = "ggml")]
mod llm;
mod loading;
mod nans;
mod narrow;
mod nearest;
mod newest;
mod operators;
mod profiled;
mod quantized;
mod random;
mod regressions;
mod silent;
mod strange;
mod table;
mod threaded;
mod vectors;
