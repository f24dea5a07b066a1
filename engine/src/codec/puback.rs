//! puback
