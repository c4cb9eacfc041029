//! The backend with a library in C.
#![cfg(target_os = "linux")]

mod calls;
mod library;
mod opening;
mod waiting;
