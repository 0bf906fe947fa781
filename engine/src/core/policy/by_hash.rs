//! The same server for the same key, by weighted rendezvous hashing (Thaler and Ravishankar; weights after Schindelhauer
//! and Schomaker): every server draws a lot from the key and its own name, and the best lot wins. If a server leaves, only
//! its keys move, each to the owner of its second best lot; if it returns, they return. No table, no ring.

use super::super::rng::mix;
use super::Offer;

pub(super) fn choose(offer: &Offer<'_>, key: u64) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (position, candidate) in offer.eligible() {
        let wait = lot(key, candidate.key) / f64::from(offer.weight(candidate));
        if best.is_none_or(|(_, shortest)| wait < shortest) {
            best = Some((position, wait));
        }
    }
    best.map(|(position, _)| position)
}

/// Exponentially distributed with mean 1, and always the same for the same key and server: among such waits, each divided by
/// its weight, each is the shortest with a probability in proportion to its weight.
fn lot(key: u64, server: u64) -> f64 {
    let bits = mix(mix(key) ^ mix(server.wrapping_add(0x9e37_79b9_7f4a_7c15)));
    // 53 bits are what a double holds; the half keeps it above 0.
    let uniform = ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -uniform.ln()
}
