//! Products of all forms, compared with a reference and with candle's functions.

#[cfg(feature = "candle")]
mod bench;
#[cfg(feature = "candle")]
#[expect(unsafe_code, reason = "candle's block types have private fields, so they can be filled only as bytes")]
mod candle;
mod forms;
mod matrices;
mod reference;
mod samples;
