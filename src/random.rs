//! Random numbers that nobody can guess.

#![forbid(unsafe_code)]

/// 128 bits of them; the error is the host's.
pub fn bits() -> Result<[u8; 16], String> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|error| format!("the host gives no random numbers: {error}"))?;
    Ok(bits)
}

/// The same as hexadecimal digits.
pub fn hex() -> Result<String, String> {
    bits().map(|bits| format!("{:032x}", u128::from_be_bytes(bits)))
}
