//! Programs over a table.
