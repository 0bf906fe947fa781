//! Which of the sockets on one address gets a datagram: a program of classic BPF, run by the kernel for each.
//!
//! Sender (address and port) and identifier, the datagram's second octet, are a point on a circle that is divided evenly
//! among the sockets. The sender decides where on it its identifiers begin; from one to the next it is a step of the golden
//! ratio, which spreads any run of them evenly, whatever the number of sockets. The same packet always has the same point.

use libc::{
    BPF_A, BPF_ABS, BPF_ADD, BPF_ALU, BPF_B, BPF_H, BPF_IMM, BPF_IND, BPF_JA, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_LDX,
    BPF_MEM, BPF_MISC, BPF_MSH, BPF_MUL, BPF_RET, BPF_RSH, BPF_ST, BPF_TAX, BPF_W, BPF_X, sock_filter,
};

/// Where the IP header is for a program whose data begins behind the UDP header.
const NET: u32 = libc::SKF_NET_OFF.cast_unsigned();
/// 2^32 divided by the golden ratio, made odd.
const GOLDEN: u32 = 0x9e37_79b1;
/// Odd numbers without a pattern: multiples of them fall anywhere.
const BY_ADDRESS: u32 = 0x85eb_ca6b;
const BY_PORT: u32 = 0xc2b2_ae35;
const UDP: u32 = libc::IPPROTO_UDP.cast_unsigned();

/// The program that chooses among `many` sockets, by the order in which they were bound. What is too short to have an
/// identifier goes to the first, and so does what the program cannot read.
pub(super) fn program(many: u16) -> [sock_filter; 38] {
    // There is a number A to compute with, a second operand X, and a place in memory: for the address.
    let load = |size, at| step(BPF_LD | BPF_ABS | size, at);
    let times = |factor| step(BPF_ALU | BPF_MUL | BPF_K, factor);
    let shift_right = |bits| step(BPF_ALU | BPF_RSH | BPF_K, bits);
    let equal = |value, over_if, over_else| branch(BPF_JMP | BPF_JEQ | BPF_K, value, over_if, over_else);
    let keep_in_x = step(BPF_MISC | BPF_TAX, 0);
    let add_x = step(BPF_ALU | BPF_ADD | BPF_X, 0);
    let (store, recall) = (step(BPF_ST, 0), step(BPF_LD | BPF_MEM, 0));
    [
        load(BPF_B, NET),
        shift_right(4),
        equal(6, 4, 0),
        // v4: its address, and as X the length of its header; on to the port.
        load(BPF_W, NET + 12),
        store,
        step(BPF_LDX | BPF_B | BPF_MSH, NET),
        step(BPF_JMP | BPF_JA, 17),
        // v6: the four words of its address.
        load(BPF_W, NET + 8),
        times(BY_ADDRESS),
        keep_in_x,
        load(BPF_W, NET + 12),
        add_x,
        times(BY_ADDRESS),
        keep_in_x,
        load(BPF_W, NET + 16),
        add_x,
        times(BY_ADDRESS),
        keep_in_x,
        load(BPF_W, NET + 20),
        add_x,
        store,
        // Between extension headers the port is not looked for: there the kind of the first stands for it.
        load(BPF_B, NET + 6),
        equal(UDP, 0, 2),
        step(BPF_LDX | BPF_W | BPF_IMM, 40),
        // The port: X octets behind the beginning of the IP header.
        step(BPF_LD | BPF_H | BPF_IND, NET),
        times(BY_PORT),
        keep_in_x,
        recall,
        times(BY_ADDRESS),
        add_x,
        keep_in_x,
        // The identifier.
        load(BPF_B, 1),
        times(GOLDEN),
        add_x,
        // From a point on the circle of 2^32 to a socket: the upper half, as a fraction of `many`.
        shift_right(16),
        times(u32::from(many)),
        shift_right(16),
        step(BPF_RET | BPF_A, 0),
    ]
}

fn step(code: u32, k: u32) -> sock_filter {
    branch(code, k, 0, 0)
}

fn branch(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    #[expect(clippy::cast_possible_truncation, reason = "codes are octets")]
    let code = code as u16;
    sock_filter { code, jt, jf, k }
}
