//! Datagrams over loopback: that each comes where it should, whole, once, and that answers find the way back.

use std::net::UdpSocket as Std;
use std::thread;
use std::time::Instant;

use super::plain::{Batch as PlainBatch, Outgoing as PlainOutgoing};
use super::*;

const WAIT: Duration = Duration::from_secs(10);
const SETTINGS: Settings = Settings {
    receive_buffer_bytes: 1 << 20,
    together: true,
};

fn bound(address: &str, count: usize) -> (SocketAddr, Vec<Socket>) {
    let sockets = bind(address.parse().unwrap(), count, SETTINGS).unwrap();
    (sockets[0].local_addr(), sockets)
}

fn client(address: &str) -> Std {
    let client = Std::bind(address).unwrap();
    client.set_read_timeout(Some(WAIT)).unwrap();
    client
}

fn one(socket: &mut Socket, batch: &mut Batch) {
    let begun = Instant::now();
    while socket.receive(batch, false).unwrap() == 0 {
        assert!(begun.elapsed() < WAIT);
    }
    assert_eq!(batch.iter().count(), 1);
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::{HashMap, HashSet};
    use std::net::IpAddr;

    use super::*;

    /// Everything that comes until so many are there: on which socket, from whom, its octets.
    fn take(sockets: &mut [Socket], want: usize) -> Vec<(usize, Path, Vec<u8>)> {
        let (mut batch, mut got) = (Batch::new(64, 4096), Vec::new());
        let begun = Instant::now();
        while got.len() < want {
            assert!(begun.elapsed() < WAIT, "{} of {want}", got.len());
            for (number, socket) in sockets.iter_mut().enumerate() {
                socket.receive(&mut batch, false).unwrap();
                got.extend(batch.iter().map(|one| (number, one.path, one.bytes.to_vec())));
            }
        }
        got
    }

    fn all_sent(sent: usize) -> Sent {
        Sent {
            sent,
            ..Sent::default()
        }
    }

    /// Who sends: an address of its own, and where to.
    const WAYS: [(&str, &str, &str); 4] = [
        ("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1"),
        ("[::1]:0", "[::1]:0", "::1"),
        ("[::]:0", "127.0.0.3:0", "127.0.0.1"),
        ("[::]:0", "[::1]:0", "::1"),
    ];

    #[test]
    fn a_duplicate_meets_its_original_and_one_port_is_spread_evenly() {
        for (listen, own, to) in WAYS {
            for count in [2, 3, 8] {
                let (at, mut sockets) = bound(listen, count);
                let to = SocketAddr::new(to.parse().unwrap(), at.port());
                let clients = [client(own), client(own), client(own)];
                let mut places: HashMap<(SocketAddr, u8), HashSet<usize>> = HashMap::new();
                // The third time with another length, as if something else had taken the identifier.
                for (length, id) in [20, 20, 900]
                    .into_iter()
                    .flat_map(|length| (0..=255_u8).map(move |id| (length, id)))
                {
                    for client in &clients {
                        client.send_to(&[&[1, id][..], &vec![9; length]].concat(), to).unwrap();
                    }
                    for (socket, path, bytes) in take(&mut sockets, clients.len()) {
                        places.entry((path.from, bytes[1])).or_default().insert(socket);
                    }
                }
                assert_eq!(places.len(), 3 * 256, "{listen} {to}");
                assert!(places.values().all(|met| met.len() == 1), "{listen} {to} {count}");
                for client in &clients {
                    let port = client.local_addr().unwrap().port();
                    for socket in 0..count {
                        let mine = places.iter().filter(|((from, _), _)| from.port() == port);
                        let share = mine.filter(|(_, met)| met.contains(&socket)).count() * count;
                        // Of 256: within 40 and 60 of 100 where there are two.
                        assert!((205..308).contains(&share), "{listen} {to} {count}: {share}");
                    }
                }
            }
        }
    }

    #[test]
    fn few_identifiers_are_spread_too_one_after_the_other_or_every_second() {
        let (at, mut sockets) = bound("127.0.0.1:0", 2);
        for step in [1, 2, 4] {
            let client = client("127.0.0.1:0");
            for number in 0..16_u8 {
                client.send_to(&[1, 100 + step * number, 0], at).unwrap();
            }
            let first = take(&mut sockets, 16)
                .iter()
                .filter(|(socket, ..)| *socket == 0)
                .count();
            assert!((5..12).contains(&first), "{step}: {first}");
        }
    }

    #[test]
    fn senders_are_told_apart_by_address_and_by_port() {
        let (at, mut sockets) = bound("127.0.0.1:0", 2);
        let share = |sockets: &mut [Socket], clients: &[Std]| {
            for client in clients {
                client.send_to(&[1, 0, 0], at).unwrap();
            }
            let got = take(sockets, clients.len());
            got.iter().filter(|(socket, ..)| *socket == 0).count() * 100 / clients.len()
        };
        // All with the same identifier. Whatever ports the kernel gives: by chance it is not above 95 of 100.
        let ports: Vec<Std> = (0..100).map(|_| client("127.0.0.1:0")).collect();
        assert!((5..95).contains(&share(&mut sockets, &ports)));
        let port = ports[0].local_addr().unwrap().port();
        let addresses: Vec<Std> = (100..200)
            .map(|host| client(&format!("127.0.0.{host}:{port}")))
            .collect();
        assert!((25..75).contains(&share(&mut sockets, &addresses)));

        let (at, mut sockets) = bound("[::1]:0", 2);
        let ports: Vec<Std> = (0..100).map(|_| client("[::1]:0")).collect();
        for client in &ports {
            client.send_to(&[1, 0, 0], at).unwrap();
        }
        let got = take(&mut sockets, 100);
        assert!((5..95).contains(&got.iter().filter(|(socket, ..)| *socket == 0).count()));
    }

    #[test]
    fn what_has_no_identifier_is_received_all_the_same() {
        let (at, mut sockets) = bound("127.0.0.1:0", 2);
        let client = client("127.0.0.1:0");
        client.send_to(&[], at).unwrap();
        client.send_to(&[1], at).unwrap();
        let got = take(&mut sockets, 2);
        assert_eq!((got[0].2.len(), got[1].2.len()), (0, 1));
    }

    #[test]
    fn an_answer_comes_from_the_address_that_was_asked() {
        for (listen, asked, own) in [
            ("0.0.0.0:0", "127.0.0.1", "127.0.0.1:0"),
            ("0.0.0.0:0", "127.0.0.2", "127.0.0.1:0"),
            ("[::]:0", "127.0.0.1", "127.0.0.1:0"),
            ("[::]:0", "127.0.0.2", "127.0.0.1:0"),
            ("[::]:0", "::1", "[::1]:0"),
            ("127.0.0.2:0", "127.0.0.2", "127.0.0.1:0"),
        ] {
            let (at, mut sockets) = bound(listen, 1);
            let (asked, client): (IpAddr, Std) = (asked.parse().unwrap(), client(own));
            client.send_to(b"ask", (asked, at.port())).unwrap();
            let got = take(&mut sockets, 1);
            let (_, path, bytes) = &got[0];
            // As it is: no v4 address in the form of v6.
            assert_eq!(
                (path.from, path.to),
                (client.local_addr().unwrap(), Some(asked)),
                "{listen}"
            );
            assert_eq!(bytes, b"ask");
            let sent = sockets[0].send(&[(*path, 1..7)], b"xanswery");
            assert_eq!(sent, all_sent(1));
            let mut room = [0; 16];
            let (len, from) = client.recv_from(&mut room).unwrap();
            assert_eq!(
                (&room[..len], from),
                (&b"answer"[..], SocketAddr::new(asked, at.port()))
            );
        }
    }

    #[test]
    fn one_alone_comes_as_it_does_among_others() {
        for (listen, asked, own) in [
            ("0.0.0.0:0", "127.0.0.2", "127.0.0.1:0"),
            ("[::]:0", "127.0.0.2", "127.0.0.1:0"),
            ("[::]:0", "::1", "[::1]:0"),
            ("127.0.0.2:0", "127.0.0.2", "127.0.0.1:0"),
        ] {
            let (at, mut sockets) = bound(listen, 1);
            let (asked, client, socket): (IpAddr, Std, _) = (asked.parse().unwrap(), client(own), &mut sockets[0]);
            let mut batch = Batch::new(4, 64);
            assert_eq!(socket.receive_one(&mut batch, false).unwrap(), 0);
            assert_eq!(batch.iter().count(), 0);
            for length in [3, 0, 64, 65, 200, 5] {
                client.send_to(&vec![7; length], (asked, at.port())).unwrap();
            }
            let mut got = Vec::new();
            for round in 0..6 {
                // They come in order however they are read; what is left stays.
                let fresh = round % 2 == 0;
                assert_eq!(socket.receive_one(&mut batch, fresh).unwrap(), 1, "{listen}");
                let one = batch.iter().next().unwrap();
                assert_eq!(
                    (one.path.from, one.path.to),
                    (client.local_addr().unwrap(), Some(asked))
                );
                assert!(one.age.is_none_or(|_| !fresh));
                got.push((one.bytes.len(), one.truncated));
            }
            assert_eq!(
                got,
                [(3, false), (0, false), (64, false), (64, true), (64, true), (5, false)]
            );
            assert_eq!(socket.receive_one(&mut batch, false).unwrap(), 0);
            assert!(
                batch.memory().iter().all(|octet| *octet == 0),
                "what was read is overwritten"
            );
            // And all headers are as they were for the others.
            for number in 1..=3 {
                client.send_to(&[number], (asked, at.port())).unwrap();
            }
            let got = take(&mut sockets, 3);
            assert!(
                got.iter()
                    .map(|(_, path, bytes)| (path.to, bytes[0]))
                    .eq([1, 2, 3].map(|n| (Some(asked), n)))
            );
        }
    }

    #[test]
    fn it_is_told_of_for_as_long_as_it_is_there() {
        let (at, mut sockets) = bound("127.0.0.1:0", 1);
        let (mut poll, mut events) = (mio::Poll::new().unwrap(), mio::Events::with_capacity(8));
        sockets[0].register(poll.registry(), Token(7)).unwrap();
        let (client, mut batch) = (client("127.0.0.1:0"), Batch::new(4, 64));
        for _ in 0..3 {
            client.send_to(b"ask", at).unwrap();
        }
        for _ in 0..3 {
            poll.poll(&mut events, Some(WAIT)).unwrap();
            assert_eq!(events.iter().map(|event| event.token()).collect::<Vec<_>>(), [Token(7)]);
            assert_eq!(sockets[0].receive_one(&mut batch, false).unwrap(), 1);
        }
        poll.poll(&mut events, Some(Duration::from_millis(20))).unwrap();
        assert!(events.is_empty());
    }

    #[test]
    fn what_is_not_read_in_time_is_counted() {
        let small = Settings {
            receive_buffer_bytes: 4096,
            ..SETTINGS
        };
        let mut socket = bind("127.0.0.1:0".parse().unwrap(), 1, small).unwrap().remove(0);
        assert_eq!(socket.receive_buffer_bytes().unwrap(), 4096);
        let (client, mut batch, mut received) = (client("127.0.0.1:0"), Batch::new(64, 4096), 0);
        for round in 1..=2 {
            for _ in 0..500 {
                client.send_to(&[1; 1000], socket.local_addr()).unwrap();
            }
            loop {
                match socket.receive(&mut batch, false).unwrap() {
                    0 => break,
                    count => received += count,
                }
            }
            client.send_to(&[1; 1000], socket.local_addr()).unwrap();
            one(&mut socket, &mut batch);
            received += 1;
            assert_eq!(socket.kernel_drops() + received as u64, 501 * round);
            assert!(socket.kernel_drops() > 400 * round);
        }
    }

    #[test]
    fn a_datagram_tells_how_long_it_has_waited() {
        let (at, mut sockets) = bound("127.0.0.1:0", 1);
        let (client, mut batch) = (client("127.0.0.1:0"), Batch::new(4, 64));
        // The first ones after the kernel has begun to look at the clock may not have a time of their own.
        let waited = (0..100).find_map(|_| {
            client.send_to(b"ask", at).unwrap();
            thread::sleep(Duration::from_millis(30));
            one(&mut sockets[0], &mut batch);
            let age = batch.iter().next().unwrap().age.unwrap();
            (age >= Duration::from_millis(25)).then_some(age)
        });
        assert!(waited.unwrap() < WAIT);
    }

    #[test]
    fn a_thousand_pass_with_few_system_calls() {
        let (at, mut sockets) = bound("127.0.0.1:0", 1);
        let (client, mut batch, mut calls) = (client("127.0.0.1:0"), Batch::new(64, 4096), 0);
        let mut numbers = Vec::new();
        for round in 0..10_u16 {
            for number in 0..100_u16 {
                client.send_to(&(round * 100 + number).to_be_bytes(), at).unwrap();
            }
            while numbers.len() < (usize::from(round) + 1) * 100 && calls < 100 {
                calls += 1;
                sockets[0].receive(&mut batch, false).unwrap();
                numbers.extend(
                    batch
                        .iter()
                        .map(|one| u16::from_be_bytes(one.bytes.try_into().unwrap())),
                );
            }
        }
        // In order, none twice, each call with as many as there are: 64 and 36.
        assert_eq!((numbers, calls), ((0..1000).collect(), 20));

        let path = Path {
            from: client.local_addr().unwrap(),
            to: None,
        };
        let answers: Vec<_> = (0..1000).map(|number| (path, number..number + 2)).collect();
        let Socket { socket, out, .. } = &mut sockets[0];
        assert_eq!(out.send(socket, &answers[..100], &[7; 1002]).unwrap(), SENT_AT_ONCE);
        for _ in 0..SENT_AT_ONCE {
            client.recv_from(&mut [0; 8]).unwrap();
        }
        let bytes: Vec<u8> = (0..1002_u16).map(|number| number.to_le_bytes()[0]).collect();
        for (round, some) in answers.chunks(100).enumerate() {
            assert_eq!(sockets[0].send(some, &bytes), all_sent(100));
            for number in 0..100 {
                let mut room = [0; 8];
                assert_eq!(client.recv_from(&mut room).unwrap(), (2, at));
                assert_eq!(room[..2], bytes[round * 100 + number..][..2]);
            }
        }
    }

    #[test]
    fn answers_of_one_length_go_together_and_come_one_by_one() {
        for (listen, own, to) in WAYS {
            let (at, mut sockets) = bound(listen, 1);
            let (to, client): (IpAddr, Std) = (to.parse().unwrap(), client(own));
            client.send_to(b"ask", (to, at.port())).unwrap();
            let (_, path, _) = take(&mut sockets, 1).remove(0);
            // The last of those that go together may be shorter; the one behind it, and the one of another length, go by themselves.
            let mut lengths = vec![20; 100];
            lengths.extend([3, 20, 20, 38, 38, 1300, 1300, 20]);
            let mut end = 0_usize;
            let answers: Vec<_> = lengths
                .iter()
                .map(|length| {
                    let start = end;
                    end += length;
                    (path, start..end)
                })
                .collect();
            let bytes: Vec<u8> = (0..end).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
            let Socket { socket, out, .. } = &mut sockets[0];
            // 64, 37, 2, 2, and three by themselves.
            assert_eq!(out.send(socket, &answers, &bytes).unwrap(), answers.len(), "{listen}");
            for (_, range) in &answers {
                let mut room = [0; 2000];
                let (len, from) = client.recv_from(&mut room).unwrap();
                assert_eq!(
                    (&room[..len], from),
                    (&bytes[range.clone()], SocketAddr::new(to, at.port()))
                );
            }
            // One call has room for so many headers, and so for many more answers.
            let many: Vec<_> = (0..4000).map(|number| (path, number..number + 1)).collect();
            assert_eq!(out.send(socket, &many[..80], &[7; 4000]).unwrap(), 80);
            let mut alone = Outgoing::new(SENT_AT_ONCE, at, false);
            assert_eq!(alone.send(socket, &many[..80], &[7; 4000]).unwrap(), SENT_AT_ONCE);
        }
    }

    #[test]
    fn what_was_received_is_overwritten() {
        let (at, mut sockets) = bound("127.0.0.1:0", 1);
        let (client, mut batch) = (client("127.0.0.1:0"), Batch::new(4, 64));
        client.send_to(b"secret", at).unwrap();
        one(&mut sockets[0], &mut batch);
        assert!(batch.memory().starts_with(b"secret"));
        batch.wipe();
        assert!(batch.iter().next().is_none() && batch.memory().iter().all(|octet| *octet == 0));

        // By the next call, too.
        client.send_to(b"a longer secret", at).unwrap();
        one(&mut sockets[0], &mut batch);
        client.send_to(b"short", at).unwrap();
        one(&mut sockets[0], &mut batch);
        assert!(batch.memory()[5..].iter().all(|octet| *octet == 0));
        assert_eq!(sockets[0].receive(&mut batch, false).unwrap(), 0);
        assert!(batch.memory().iter().all(|octet| *octet == 0));
    }
}

#[test]
fn what_is_too_long_is_cut_and_said_to_be() {
    let (at, mut sockets) = bound("127.0.0.1:0", 1);
    let (client, mut batch) = (client("127.0.0.1:0"), Batch::new(64, 4096));
    for (length, truncated) in [(4096, false), (4097, true), (9000, true), (20, false)] {
        client.send_to(&vec![7; length], at).unwrap();
        one(&mut sockets[0], &mut batch);
        let one = batch.iter().next().unwrap();
        assert_eq!((one.bytes, one.truncated), (&vec![7; length.min(4096)][..], truncated));
    }
}

#[test]
fn an_answer_that_cannot_be_sent_does_not_keep_the_others() {
    let (_, mut sockets) = bound("127.0.0.1:0", 1);
    let client = client("127.0.0.1:0");
    let good = Path {
        from: client.local_addr().unwrap(),
        to: None,
    };
    let nowhere = |from: &str| Path {
        from: from.parse().unwrap(),
        to: None,
    };
    let answers = [
        (nowhere("127.0.0.1:0"), 0..1),
        (good, 1..2),
        (nowhere("[::1]:1812"), 2..3),
        (good, 3..40),
        (good, 4..5),
        (nowhere("127.0.0.1:0"), 5..6),
        (nowhere("127.0.0.1:0"), 5..6),
        (good, 6..7),
        (nowhere("127.0.0.1:0"), 7..8),
    ];
    let sent = sockets[0].send(&answers, b"01234567");
    assert_eq!((sent.sent, sent.would_block, sent.failed), (3, 0, 6));
    for number in [b"1", b"4", b"6"] {
        let mut room = [0; 8];
        assert_eq!(client.recv_from(&mut room).unwrap().0, 1);
        assert_eq!(&room[..1], number);
    }
    assert_eq!(sockets[0].send(&[], b""), Sent::default());
}

#[test]
fn what_the_kernel_has_no_room_for_is_dropped_and_counted() {
    let path = Path {
        from: "127.0.0.1:1".parse().unwrap(),
        to: None,
    };
    let answers = vec![(path, 0..1); 100];
    let no_buffers = || io::Error::from_raw_os_error(rustix::io::Errno::NOBUFS.raw_os_error());
    let unreachable = || io::Error::from_raw_os_error(rustix::io::Errno::NETUNREACH.raw_os_error());
    let script = [
        (100, Ok(60)),
        (40, Err(unreachable())),
        (39, Ok(1)),
        (38, Err(no_buffers())),
        (37, Ok(7)),
        (30, Err(io::ErrorKind::WouldBlock.into())),
    ];
    let mut script = script.into_iter();
    let sent = send_each(&answers, |rest| {
        let (left, result) = script.next().unwrap();
        assert_eq!(rest.len(), left);
        result
    });
    assert_eq!((sent.sent, sent.would_block, sent.failed), (68, 31, 1));
    assert!(script.next().is_none());
    // A kernel that takes nothing and says no reason ends as well.
    assert_eq!(send_each(&answers, |_| Ok(0)).failed, 100);
}

#[test]
fn an_address_that_another_program_has_is_not_shared_with_it() {
    let refused = |at: SocketAddr| bind(at, 2, SETTINGS).unwrap_err().kind() == io::ErrorKind::AddrInUse;
    // Addresses that no other test uses: they run at the same time.
    for shares in [false, true] {
        let other = socket2::Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        other.set_reuse_port(shares).unwrap();
        other
            .bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 77], 0))))
            .unwrap();
        let taken = other.local_addr().unwrap().as_socket().unwrap();
        assert!(refused(taken), "{shares}");
        for all in ["0.0.0.0", "::"] {
            assert!(
                refused(SocketAddr::new(all.parse().unwrap(), taken.port())),
                "{all} {shares}"
            );
        }
    }
    // Not even with another one of us; and it is free again when that has gone.
    let (at, sockets) = bound("127.0.0.78:0", 2);
    assert!(refused(at));
    assert!(Std::bind(at).is_err());
    drop(sockets);
    assert_eq!(bind(at, 2, SETTINGS).unwrap()[0].local_addr(), at);
}

#[test]
fn one_port_is_chosen_for_all_and_only_all_addresses_of_v6_are_those_of_v4_too() {
    let (at, sockets) = bound("[::1]:0", 3);
    assert!(at.port() != 0 && sockets.iter().all(|socket| socket.local_addr() == at));
    assert_eq!(sockets.len(), if cfg!(target_os = "linux") { 3 } else { 1 });
    assert!(socket2::SockRef::from(&sockets[0]).only_v6().unwrap());
    let (at, sockets) = bound("[::]:0", 1);
    assert!(!socket2::SockRef::from(&sockets[0]).only_v6().unwrap());
    assert!(Std::bind(("127.0.0.1", at.port())).is_err());
}

#[test]
fn an_event_tells_that_something_came() {
    let (at, mut sockets) = bound("127.0.0.1:0", 1);
    let mut socket = sockets.remove(0);
    let (mut poll, mut events) = (mio::Poll::new().unwrap(), mio::Events::with_capacity(8));
    let client = client("127.0.0.1:0");
    // A socket is made by one thread and used by another.
    thread::spawn(move || {
        socket.register(poll.registry(), Token(7)).unwrap();
        let mut batch = Batch::new(4, 64);
        for _ in 0..2 {
            client.send_to(b"ask", at).unwrap();
            poll.poll(&mut events, Some(WAIT)).unwrap();
            assert!(
                events
                    .iter()
                    .any(|event| event.token() == Token(7) && event.is_readable())
            );
            one(&mut socket, &mut batch);
            assert_eq!(socket.receive(&mut batch, false).unwrap(), 0);
        }
        socket.deregister(poll.registry()).unwrap();
        client.send_to(b"ask", at).unwrap();
        poll.poll(&mut events, Some(Duration::from_millis(20))).unwrap();
        assert!(events.is_empty());
    })
    .join()
    .unwrap();
}

#[test]
fn without_batches_of_the_kernel_it_works_too() {
    for (listen, own, to) in [
        ("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1"),
        ("[::]:0", "127.0.0.1:0", "127.0.0.1"),
    ] {
        let (at, sockets) = bound(listen, 1);
        let (socket, client, mut batch) = (&sockets[0].socket, client(own), PlainBatch::new(2, 8));
        let mut out = PlainOutgoing::new(64, at, false);
        for content in [&b"one"[..], b"12345678", b"123456789"] {
            client.send_to(content, (to, at.port())).unwrap();
        }
        let begun = Instant::now();
        let to = (!at.ip().is_unspecified()).then_some(at.ip());
        let mut got = Vec::new();
        while got.len() < 3 {
            assert!(begun.elapsed() < WAIT);
            match batch.receive(socket, to, false) {
                Ok(count) => assert!(count == batch.iter().count() && (1..3).contains(&count)),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            got.extend(batch.iter().map(|one| (one.path, one.bytes.to_vec(), one.truncated)));
        }
        let path = Path {
            from: client.local_addr().unwrap(),
            to,
        };
        let want = [(&b"one"[..], false), (b"12345678", false), (b"12345678", true)];
        assert_eq!(got, want.map(|(bytes, truncated)| (path, bytes.to_vec(), truncated)));
        batch.wipe();
        assert_eq!(batch.iter().count(), 0);
        let sent = send_each(&[(path, 0..1), (path, 1..9), (path, 1..3)], |rest| {
            out.send(socket, rest, b"abc")
        });
        assert_eq!((sent.sent, sent.failed), (2, 1));
        let mut room = [0; 8];
        assert_eq!(client.recv_from(&mut room).unwrap().0, 1);
        assert_eq!(client.recv_from(&mut room).unwrap().0, 2);
        assert_eq!(&room[..2], b"bc");
    }
}
