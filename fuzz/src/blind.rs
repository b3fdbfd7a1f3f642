//! A bounded run without guidance: seeds, changed a little, the same every time.

use virgld_testkit::Random;

/// The longest input that comes of changing others.
const LONGEST: usize = 1024;

/// Inputs made of `seeds` by a number: the same number makes the same input. There must be a seed.
pub fn mutation(seeds: &[Vec<u8>], number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    let mut bytes = random.pick(seeds).cloned().unwrap_or_default();
    for _ in 0..1 + random.below(8) {
        change(&mut bytes, seeds, &mut random);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let byte = random.number().to_le_bytes()[0];
    match random.below(6) {
        0 => bytes.insert(at, byte),
        1 if at < bytes.len() => drop(bytes.remove(at)),
        2 if at < bytes.len() => bytes[at] = byte,
        3 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        // The end of another.
        4 => {
            let other = random.pick(seeds).cloned().unwrap_or_default();
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        // A part of itself, again.
        _ => {
            let end = (at + random.below(16)).min(bytes.len());
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_makes_one_input_and_numbers_make_many() {
        let seeds = vec![vec![1, 2, 3, 4], vec![9; 40]];
        let made: Vec<_> = (0..100).map(|number| mutation(&seeds, number)).collect();
        assert!((0..100).zip(&made).all(|(number, bytes)| mutation(&seeds, number) == *bytes));
        let distinct: std::collections::BTreeSet<_> = made.iter().collect();
        assert!(distinct.len() > 90);
    }
}
