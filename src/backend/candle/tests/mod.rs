//! What the candle backend promises, tried on models that the tests build themselves.

mod bounds;
mod builder;
mod contrib;
mod corners;
mod defaults;
mod doubles;
mod external;
mod families;
mod first;
mod function;
mod fused;
mod hostile;
mod learning;
mod loading;
mod nans;
mod narrow;
mod nearest;
mod operators;
mod random;
mod regressions;
mod silent;
mod strange;
mod threaded;
