//! Subjects and patterns: tokens between dots, `*` for one token, a last `>` for one or more.
//!
//! Source: the NATS client protocol, subjects and wildcards.

/// Whether every token is non-empty and free of whitespace and NUL, and `>` stands last; wildcards only where allowed.
pub fn valid(subject: &[u8], wildcards: bool) -> bool {
    if subject.is_empty() {
        return false;
    }
    let mut tokens = subject.split(|byte| *byte == b'.').peekable();
    while let Some(token) = tokens.next() {
        if token.is_empty() || token.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0c | 0)) {
            return false;
        }
        match token {
            b"*" if !wildcards => return false,
            b">" if !wildcards || tokens.peek().is_some() => return false,
            _ => {}
        }
    }
    true
}

/// Whether a pattern has a wildcard token.
pub fn is_pattern(subject: &[u8]) -> bool {
    subject.split(|byte| *byte == b'.').any(|token| token == b"*" || token == b">")
}

/// Whether a literal subject matches a pattern. Wildcard bytes in `subject` are literals.
pub fn matches(pattern: &[u8], subject: &[u8]) -> bool {
    let mut wanted = pattern.split(|byte| *byte == b'.');
    let mut given = subject.split(|byte| *byte == b'.');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(b">"), Some(_)) => return true,
            (Some(b"*"), Some(_)) => {}
            (Some(token), Some(other)) if token == other => {}
            _ => return false,
        }
    }
}

/// Whether some literal subject matches both patterns.
pub fn collides(first: &[u8], second: &[u8]) -> bool {
    let mut left = first.split(|byte| *byte == b'.');
    let mut right = second.split(|byte| *byte == b'.');
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(b">"), Some(_)) | (Some(_), Some(b">")) => return true,
            (Some(b"*"), Some(_)) | (Some(_), Some(b"*")) => {}
            (Some(token), Some(other)) if token == other => {}
            _ => return false,
        }
    }
}

/// Whether every literal subject that matches `inner` matches `outer` too.
pub fn subset(inner: &[u8], outer: &[u8]) -> bool {
    let mut wanted = outer.split(|byte| *byte == b'.');
    let mut given = inner.split(|byte| *byte == b'.');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(b">"), Some(_)) => return true,
            (_, Some(b">")) => return false,
            (Some(b"*"), Some(_)) => {}
            (Some(token), Some(other)) if token == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity() {
        for good in ["a", "a.b", "a.*.b", "a.>", ">", "*", "a*", "a>b", "é.ü"] {
            assert!(valid(good.as_bytes(), true), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a.>.b", "a b", "a\0"] {
            assert!(!valid(bad.as_bytes(), true), "{bad}");
        }
        assert!(!valid(b"a.*", false));
        assert!(valid(b"a*.b>", false));
    }

    #[test]
    fn relations() {
        assert!(
            matches(b"a.*.c", b"a.b.c") && matches(b"a.>", b"a.b.c") && !matches(b"a.>", b"a") && matches(b"a", b"a")
        );
        assert!(
            collides(b"a.*", b"*.b")
                && collides(b"a.>", b"a.b")
                && !collides(b"a.>", b"a")
                && !collides(b"a.b", b"a.c")
        );
        assert!(subset(b"a.b", b"a.*") && subset(b"a.*", b"a.>") && subset(b"a.>", b"a.>"));
        assert!(!subset(b"a.>", b"a.*") && !subset(b"a.*", b"a.b") && !subset(b"*.b", b"a.>"));
    }
}
