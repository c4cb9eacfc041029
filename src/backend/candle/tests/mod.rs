//! What the candle backend promises, tried on models that the tests build themselves.

mod builder;
mod first;
