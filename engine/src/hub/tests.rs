//! Hub rules: bytes in, bytes and events out.
