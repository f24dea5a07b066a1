//! Insertions, removals and matches against a plain list of patterns.
//!
//! Lines of the input: `+pattern`, `-` and a byte that picks an entry to remove, anything else is a subject to match.
#![no_main]

use libfuzzer_sys::fuzz_target;
use streamd_engine::subject;
use streamd_engine::trie::{Entry, Place, Stack, Trie};

fn remove(trie: &mut Trie, naive: &mut Vec<(Vec<u8>, Entry, Place)>, index: usize) {
    let (_, _, place) = naive.swap_remove(index);
    if let Some(moved) = trie.remove(place) {
        naive.iter_mut().filter(|row| row.1.sub == moved).for_each(|row| row.2 = place);
    }
}

fuzz_target!(|data: &[u8]| {
    let mut trie = Trie::new(1);
    let mut naive = Vec::new();
    for (number, line) in data.split(|byte| *byte == b'\n').enumerate() {
        match line {
            [b'+', pattern @ ..] if subject::valid(pattern, true) => {
                let entry = Entry { sub: number as u32, queue: 0 };
                let place = trie.insert(pattern, entry);
                naive.push((pattern.to_vec(), entry, place));
            }
            [b'-', pick, ..] if !naive.is_empty() => {
                let index = usize::from(*pick) % naive.len();
                remove(&mut trie, &mut naive, index);
            }
            subject => {
                let mut found = Vec::new();
                trie.matches(subject, &mut Stack::new(), |entry| found.push(entry));
                found.sort_unstable();
                let sound = subject.split(|byte| *byte == b'.').all(|token| !token.is_empty());
                let rows = naive.iter().filter(|row| sound && subject::matches(&row.0, subject));
                let mut wanted: Vec<Entry> = rows.map(|row| row.1).collect();
                wanted.sort_unstable();
                assert_eq!(found, wanted);
            }
        }
    }
    while !naive.is_empty() {
        remove(&mut trie, &mut naive, 0);
    }
    assert_eq!(trie.nodes(), 1);
});
