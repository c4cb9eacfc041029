//! x
#![cfg(shuttle)]
