//! The parser against rows and against a naive model of the whole input.
