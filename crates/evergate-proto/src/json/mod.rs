//! JSON text (RFC 8259): scanned, judged, and never built.
//!
//! `scan` is a cursor over a text; `strictness` says how far the text is trusted; `simd` finds the bytes that matter; `keys` notices
//! a key that is repeated; [`judge`] judges a long text while it comes in; `precheck` says why one was refused; `escape` writes
//! strings.
//!
//! May use: byte searching, vectors, and its arguments. May never: recurse on input, or know what the text means.

pub(crate) mod escape;
pub mod judge;
pub(crate) mod keys;
pub(crate) mod precheck;
pub(crate) mod scan;
pub(crate) mod simd;
pub(crate) mod strictness;
#[cfg(test)]
pub(crate) mod tests;
