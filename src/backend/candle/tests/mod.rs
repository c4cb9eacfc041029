//! What the candle backend promises, tried on models that the tests build themselves.

mod bounds;
mod builder;
mod codes;
mod corners;
mod differential;
mod doubles;
mod families;
mod filters;
mod first;
mod fused;
mod hostile;
mod loading;
mod nans;
mod narrow;
mod nearest;
mod newest;
mod operators;
mod regressions;
mod silent;
mod strange;
mod threaded;
