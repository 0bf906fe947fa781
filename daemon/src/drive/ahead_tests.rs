//! What is read ahead of a batch gets where it belongs, whatever the others of the batch have done meanwhile.

use std::io::Write;

use wire::ldap::envelope;
use wire::ldap::message::write_delete;

use super::ahead::{Ahead, READ_BYTES_MAX};
use super::contained_tests::{World, delete};
use super::events::Told;

const READABLE: Told = Told {
    at: 0,
    readable: true,
    writable: false,
    broken: false,
};

/// Two clients who have asked something, of whom both were read and neither was looked at.
struct Both {
    world: World,
    server: std::os::unix::net::UnixStream,
    clients: [(std::os::unix::net::UnixStream, usize); 2],
    ahead: Ahead,
}

impl Both {
    fn new(name: &str) -> Both {
        let mut world = World::new(name);
        let server = world.dialled();
        let mut clients = [world.client(), world.client()];
        for (id, (client, _)) in (7..).zip(&mut clients) {
            client.write_all(&delete(id)).unwrap();
        }
        let batch = clients.each_ref().map(|(_, at)| Told { at: *at, ..READABLE });
        let mut ahead = Ahead::default();
        ahead.read(&batch, &mut world.drive.conns);
        assert!(!ahead.is_wiped());
        Both {
            world,
            server,
            clients,
            ahead,
        }
    }

    fn look(&mut self, client: usize) {
        let told = Told {
            at: self.clients[client].1,
            ..READABLE
        };
        let brought = self.ahead.brought(client);
        assert!(brought.is_some());
        self.world.drive.event(&told, brought);
    }

    fn passed_on(&mut self) -> usize {
        assert!(self.ahead.is_wiped());
        self.world.drive.flush_dirty();
        requests(&self.world.read("requests", &self.server))
    }

    fn inbox(&self, client: usize) -> &[u8] {
        &self.world.drive.conns.get(self.clients[client].1).unwrap().inbox
    }
}

/// How many requests there are in what a server has read.
fn requests(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let wire::frame::Step::Frame { len } = envelope::split(bytes, 1 << 20) {
        count += 1;
        bytes = &bytes[len..];
    }
    assert!(bytes.is_empty());
    count
}

#[test]
fn what_was_read_ahead_is_served_and_forgotten() {
    let mut both = Both::new("ahead");
    both.look(0);
    both.look(1);
    assert_eq!(both.passed_on(), 2);
    assert!(both.inbox(0).is_empty() && both.inbox(1).is_empty());
}

#[test]
fn who_is_held_back_meanwhile_is_served_when_it_may_go_on() {
    let mut both = Both::new("ahead-held");
    let at = both.clients[1].1;
    both.look(0);
    both.world.drive.conns.get_mut(at).unwrap().held = true;
    both.look(1);
    assert_eq!(both.passed_on(), 1);
    assert_eq!(both.inbox(1), delete(8));

    // More comes, and stays behind it.
    both.clients[1].0.write_all(&delete(9)).unwrap();
    both.world.turn();
    both.world.drive.resume(at);
    let mut passed_on = both.world.read("a request", &both.server);
    if requests(&passed_on) == 1 {
        passed_on.extend(both.world.read("another request", &both.server));
    }
    assert_eq!(requests(&passed_on), 2);
}

#[test]
fn what_a_closing_client_said_is_thrown_away() {
    let mut both = Both::new("ahead-closing");
    both.world.drive.close_when_written(both.clients[1].1);
    both.look(0);
    both.look(1);
    assert!(both.inbox(1).is_empty());
    assert_eq!(both.passed_on(), 1);
}

#[test]
fn of_one_who_is_gone_nothing_is_left() {
    let mut both = Both::new("ahead-gone");
    both.world.drive.close(both.clients[1].1);
    both.look(0);
    both.look(1);
    assert_eq!(both.passed_on(), 1);
}

#[test]
fn a_panic_of_one_takes_nothing_that_another_said() {
    let mut both = Both::new("ahead-panic");
    let brought = both.ahead.brought(0);
    both.world.drive.contained(Some(both.clients[0].1), |_| {
        let _brought = brought;
        panic!("on purpose")
    });
    both.look(1);
    assert_eq!(both.passed_on(), 1);
}

#[test]
fn the_end_of_one_who_is_held_back_is_not_lost() {
    let mut world = World::new("ahead-end");
    let _server = world.dialled();
    let (client, at) = world.client();
    drop(client);
    let (told, mut ahead) = (Told { at, ..READABLE }, Ahead::default());
    ahead.read(&[told], &mut world.drive.conns);
    world.drive.conns.get_mut(at).unwrap().held = true;
    world.drive.event(&told, ahead.brought(0));
    assert!(world.drive.conns.get(at).is_some());
    world.drive.resume(at);
    world.turn();
    assert!(world.drive.conns.get(at).is_none());
}

#[test]
fn who_says_much_is_read_on() {
    let mut world = World::new("ahead-much");
    let server = world.dialled();
    let mut clients = [world.client(), world.client()];
    let mut long = Vec::new();
    write_delete(&mut long, 7, &vec![b'x'; 3 * READ_BYTES_MAX]);
    for (client, _) in &mut clients {
        client.write_all(&long).unwrap();
    }
    let mut passed_on = Vec::new();
    while passed_on.len() < 2 * long.len() - 8 {
        passed_on.extend(world.read("the requests", &server));
    }
    assert_eq!(requests(&passed_on), 2);
    let much = clients
        .each_ref()
        .map(|(_, at)| world.drive.conns.get(*at).unwrap().says_little);
    assert_eq!(much, [false, false]);
}
