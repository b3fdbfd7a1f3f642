//! Numbers as they are printed.

/// About three digits, with separators between thousands.
pub(super) fn short(value: f64) -> String {
    if !value.is_finite() {
        return "?".into();
    }
    let digits = match value.abs() {
        small if small < 9.995 => 2,
        middle if middle < 99.95 => 1,
        _ => 0,
    };
    let plain = format!("{value:.digits$}");
    let (whole, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let mut text = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && digit != '-' {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn three_digits_and_separators() {
        let cases =
            [(0.512, "0.51"), (9.999, "10.0"), (45.67, "45.7"), (100.4, "100"), (225_000.4, "225,000")];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
        assert_eq!(short(1_234_567.0), "1,234,567");
        assert_eq!(short(f64::NAN), "?");
    }
}
