//! Many clients at once, each of which checks every message it gets against what it asked.
//!
//! Ids are reused as soon as that is allowed. Each request carries a token that its answer must carry too: a search the
//! user's `description`, who am I? the identity, a refused delete the matched DN, a compare its truth. An abandoned
//! operation may still be answered until the server has answered something that was sent after the Abandon: messages are
//! taken in order, so what comes for it later is late.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Client, Gone, Message, Target, message};
use crate::ops;
use crate::slapd::{PEOPLE, USERS, password, user};

/// What to do.
#[derive(Clone)]
pub(crate) struct Load {
    /// Clients connect to these in turn.
    pub(crate) targets: Vec<Target>,
    pub(crate) clients: usize,
    /// Operations a client has under way.
    pub(crate) depth: usize,
    /// Of 1,000 operations, so many are abandoned at once.
    pub(crate) abandoned: u32,
    /// Of 1,000 operations, so many are rebinds (as someone else, now and then with a wrong password).
    pub(crate) rebinds: u32,
    /// Of 1,000 operations, so many are writes.
    pub(crate) writes: u32,
    /// Of 1,000 operations, so many are cancelled at once (RFC 3909).
    pub(crate) cancelled: u32,
    /// Of 1,000 operations, so many are the last of their client, which leaves without waiting for it and comes back.
    pub(crate) leaves: u32,
    /// A client rests so long between rounds; zero: as fast as it can.
    pub(crate) rest: Duration,
    /// An answer may take so long before it counts as missing.
    pub(crate) patience: Duration,
}

impl Load {
    pub(crate) fn new(targets: &[Target], clients: usize, depth: usize) -> Self {
        let targets = targets.to_vec();
        let (rest, patience) = (Duration::ZERO, Duration::from_secs(30));
        Self {
            targets,
            clients,
            depth,
            abandoned: 0,
            rebinds: 0,
            writes: 0,
            cancelled: 0,
            leaves: 0,
            rest,
            patience,
        }
    }

    /// Runs until `stop` says so, or until `operations` were sent.
    pub(crate) fn run(&self, operations: u64, stop: &AtomicBool) -> Tally {
        let left = AtomicU64::new(operations);
        let mut total = Tally::default();
        std::thread::scope(|scope| {
            let left = &left;
            let workers: Vec<_> = (0..self.clients)
                .map(|index| scope.spawn(move || self.client(index, left, stop)))
                .collect();
            for worker in workers {
                total.merge(worker.join().expect("a load client panicked"));
            }
        });
        total
    }

    fn client(&self, index: usize, left: &AtomicU64, stop: &AtomicBool) -> Tally {
        let mut asker = Asker::new(self, index);
        while !stop.load(Ordering::Relaxed) && asker.round(left) {
            if !self.rest.is_zero() {
                std::thread::sleep(self.rest);
            }
        }
        asker.finish()
    }
}

/// What came of it.
#[derive(Default, Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) operations: u64,
    pub(crate) reads: u64,
    pub(crate) abandoned: u64,
    pub(crate) cancelled: u64,
    /// Clients that went away with operations pending, and came back.
    pub(crate) left: u64,
    pub(crate) binds: u64,
    /// Reads with another result than theirs, or lost with their connection.
    pub(crate) read_errors: u64,
    pub(crate) write_errors: u64,
    pub(crate) bind_errors: u64,
    /// Binds and operations answered 51.
    pub(crate) busy: u64,
    /// A second final result.
    pub(crate) duplicate: u64,
    /// A message for an operation that was over or abandoned.
    pub(crate) late: u64,
    /// No final result within the patience.
    pub(crate) unanswered: u64,
    /// An answer with another operation's token.
    pub(crate) misdelivered: u64,
    pub(crate) disconnections: u64,
    pub(crate) slowest: Duration,
    pub(crate) codes: BTreeMap<i64, u64>,
    /// The first few troubles, for people.
    pub(crate) notes: Vec<String>,
}

impl Tally {
    pub(crate) fn merge(&mut self, other: Self) {
        let sums = [
            (&mut self.operations, other.operations),
            (&mut self.reads, other.reads),
            (&mut self.abandoned, other.abandoned),
            (&mut self.cancelled, other.cancelled),
            (&mut self.left, other.left),
            (&mut self.binds, other.binds),
            (&mut self.read_errors, other.read_errors),
            (&mut self.write_errors, other.write_errors),
            (&mut self.bind_errors, other.bind_errors),
            (&mut self.busy, other.busy),
            (&mut self.duplicate, other.duplicate),
            (&mut self.late, other.late),
            (&mut self.unanswered, other.unanswered),
            (&mut self.misdelivered, other.misdelivered),
            (&mut self.disconnections, other.disconnections),
        ];
        for (sum, more) in sums {
            *sum += more;
        }
        self.slowest = self.slowest.max(other.slowest);
        other
            .codes
            .into_iter()
            .for_each(|(code, count)| *self.codes.entry(code).or_default() += count);
        self.notes.extend(other.notes);
        self.notes.truncate(12);
    }

    /// Nothing twice, nothing late, nothing missing, nothing astray: what must hold whatever happens.
    pub(crate) fn assert_lawful(&self) {
        let broken = [self.duplicate, self.late, self.unanswered, self.misdelivered];
        assert_eq!(broken, [0; 4], "duplicate, late, unanswered, misdelivered: {self:#?}");
    }

    /// As [`Tally::assert_lawful`], and nobody noticed anything at all.
    pub(crate) fn assert_untroubled(&self) {
        self.assert_lawful();
        let troubles = [
            self.read_errors,
            self.write_errors,
            self.bind_errors,
            self.disconnections,
        ];
        assert_eq!(troubles, [0; 4], "read, write, bind errors, disconnections: {self:#?}");
    }
}

#[derive(Clone, Debug)]
enum Kind {
    /// By uid: one entry with this user's token.
    Search(usize),
    /// Of this user's token: whether it must be true.
    Compare(bool),
    /// Must say this.
    WhoAmI(String),
    /// Of what is not there, below this user: 32 with the user as matched DN.
    Delete(usize),
    /// As whom, and whether the password is right.
    Bind(usize, bool),
    /// Of another operation, by its message id.
    Cancel(i64),
}

struct Pending {
    kind: Kind,
    sent: Instant,
    entries: usize,
    /// Abandoned: tolerated until an answer to a request of this number or later has come.
    fence: Option<u64>,
    /// It may end as canceled (118).
    cancelled: bool,
    number: u64,
}

struct Asker<'a> {
    load: &'a Load,
    index: usize,
    client: Option<Client>,
    pending: HashMap<i64, Pending>,
    free: Vec<i64>,
    identity: Option<usize>,
    binding: bool,
    leaving: bool,
    number: u64,
    random: u64,
    tally: Tally,
}

impl<'a> Asker<'a> {
    fn new(load: &'a Load, index: usize) -> Self {
        Self {
            load,
            index,
            client: None,
            pending: HashMap::new(),
            free: Vec::new(),
            identity: None,
            binding: false,
            leaving: false,
            number: 0,
            random: 0x9E37_79B9_7F4A_7C15 ^ (index as u64 + 1).wrapping_mul(0xBF58_476D_1CE4_E5B9),
            tally: Tally::default(),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % bound
    }

    fn any_user(&mut self) -> usize {
        usize::try_from(self.below(USERS as u64)).expect("small") + 1
    }

    fn note(&mut self, text: &str) {
        if self.tally.notes.len() < 3 {
            self.tally.notes.push(format!("client {}: {text}", self.index));
        }
    }

    /// Sends up to the depth, then takes what has come. False when there is no more to send.
    fn round(&mut self, left: &AtomicU64) -> bool {
        if self.client.is_none() && !self.connect() {
            std::thread::sleep(Duration::from_millis(20));
            return true;
        }
        let mut bytes = Vec::new();
        let mut more = true;
        while !self.binding && self.under_way() < self.load.depth {
            if left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_err()
            {
                more = false;
                break;
            }
            self.ask(&mut bytes);
        }
        if !bytes.is_empty()
            && self
                .client
                .as_mut()
                .is_some_and(|client| client.send_raw(&bytes).is_err())
        {
            self.disconnected();
            return more;
        }
        if self.leaving {
            self.leave();
            return more;
        }
        self.take(Duration::from_millis(50));
        self.expire();
        more
    }

    fn under_way(&self) -> usize {
        self.pending.values().filter(|pending| pending.fence.is_none()).count()
    }

    fn connect(&mut self) -> bool {
        let target = &self.load.targets[self.index % self.load.targets.len()];
        let Ok(client) = Client::try_connect(target) else {
            self.tally.disconnections += 1;
            self.note("cannot connect");
            return false;
        };
        self.client = Some(client);
        self.identity = None;
        self.free = (1..=i64::try_from(self.load.depth * 4 + 8).expect("small")).collect();
        let mut bytes = Vec::new();
        let who = self.any_user();
        self.push(Kind::Bind(who, true), &mut bytes);
        self.client
            .as_mut()
            .is_some_and(|client| client.send_raw(&bytes).is_ok())
    }

    /// One more operation, perhaps abandoned at once.
    fn ask(&mut self, bytes: &mut Vec<u8>) {
        let dice = u32::try_from(self.below(1_000)).expect("small");
        let who = self.any_user();
        if dice < self.load.rebinds || self.identity.is_none() {
            // A bind abandons what is under way (RFC 4511 4.2.1): the server need not answer it any more.
            let fence = self.number + 1;
            self.pending
                .values_mut()
                .for_each(|pending| _ = pending.fence.get_or_insert(fence));
            let right = self.identity.is_none() || self.below(8) > 0;
            self.push(Kind::Bind(who, right), bytes);
            return;
        }
        let writes = self.load.rebinds + self.load.writes;
        let kind = match self.below(10) {
            _ if dice < writes => Kind::Delete(who),
            0 | 1 => Kind::Compare(true),
            2 => Kind::Compare(false),
            3 => Kind::WhoAmI(
                self.identity
                    .map_or_else(String::new, |number| format!("dn:{}", user(number))),
            ),
            _ => Kind::Search(who),
        };
        let id = self.push(kind, bytes);
        if u32::try_from(self.below(1_000)).expect("small") < self.load.abandoned {
            let fence = self.number + 1;
            let unused = self.free[0];
            bytes.extend(message(unused, &ops::abandon(id)));
            self.tally.abandoned += 1;
            if let Some(pending) = self.pending.get_mut(&id) {
                pending.fence = Some(fence);
            }
        } else if u32::try_from(self.below(1_000)).expect("small") < self.load.cancelled {
            self.tally.cancelled += 1;
            self.push(Kind::Cancel(id), bytes);
            if let Some(pending) = self.pending.get_mut(&id) {
                pending.cancelled = true;
            }
        }
        self.leaving |= u32::try_from(self.below(1_000)).expect("small") < self.load.leaves;
    }

    /// Goes away as one does whose program is killed: what is pending is nobody's.
    fn leave(&mut self) {
        self.tally.left += 1;
        self.leaving = false;
        self.pending.clear();
        self.client = None;
        self.binding = false;
    }

    fn push(&mut self, kind: Kind, bytes: &mut Vec<u8>) -> i64 {
        let place = usize::try_from(self.below(self.free.len() as u64)).expect("small");
        let id = self.free.swap_remove(place);
        self.number += 1;
        self.tally.operations += 1;
        let who = self.any_user();
        let op = match &kind {
            Kind::Search(number) => ops::search(
                PEOPLE,
                ops::SUB,
                &ops::equal("uid", &format!("user{number}")),
                &["description"],
            ),
            Kind::Compare(truth) => {
                let token = if *truth { who } else { who + 1 };
                ops::compare(&user(who), "description", &format!("token-{token}"))
            }
            Kind::WhoAmI(_) => ops::whoami(),
            Kind::Delete(number) => ops::delete(&format!("cn=nothing,{}", user(*number))),
            Kind::Bind(number, right) => {
                self.binding = true;
                self.tally.binds += 1;
                ops::bind(
                    &user(*number),
                    &if *right { password(*number) } else { "wrong".to_owned() },
                )
            }
            Kind::Cancel(of) => ops::cancel(*of),
        };
        if matches!(kind, Kind::Search(_) | Kind::Compare(_) | Kind::WhoAmI(_)) {
            self.tally.reads += 1;
        }
        bytes.extend(message(id, &op));
        let pending = Pending {
            kind,
            sent: Instant::now(),
            entries: 0,
            fence: None,
            cancelled: false,
            number: self.number,
        };
        self.pending.insert(id, pending);
        id
    }

    /// Takes one message (waiting for it), then all that have come with it.
    fn take(&mut self, limit: Duration) {
        let mut limit = limit;
        while let Some(client) = self.client.as_mut() {
            match client.receive(limit) {
                Ok(message) => self.took(&message),
                Err(Gone::Timeout) => return,
                Err(Gone::Closed) => return self.disconnected(),
            }
            if !self.client.as_ref().is_some_and(Client::has_message) {
                return;
            }
            limit = Duration::from_millis(1);
        }
    }

    fn took(&mut self, message: &Message) {
        if message.is_disconnection() {
            self.note(&format!("notice of disconnection: {}", message.diagnostic()));
            return self.disconnected();
        }
        let Some(pending) = self.pending.get_mut(&message.id) else {
            let counter = if message.is_final() {
                &mut self.tally.duplicate
            } else {
                &mut self.tally.late
            };
            *counter += 1;
            return self.note(&format!("for nothing under way: {message:?}"));
        };
        if !message.is_final() {
            pending.entries += 1;
            let right = matches!(pending.kind, Kind::Search(number)
                if message.tag == ops::SEARCH_ENTRY && message.values("description") == [format!("token-{number}")]);
            if !right {
                let kind = pending.kind.clone();
                self.tally.misdelivered += 1;
                self.note(&format!("asked {kind:?}, got {message:?}"));
            }
            return;
        }
        let Some(pending) = self.pending.remove(&message.id) else {
            return;
        };
        self.free.push(message.id);
        self.settle(&pending, message);
        self.pass_fences(pending.number);
    }

    /// What was abandoned before request `number`, which is answered now, is over.
    fn pass_fences(&mut self, number: u64) {
        let over = |pending: &Pending| pending.fence.is_some_and(|fence| fence <= number);
        let ids: Vec<i64> = self
            .pending
            .iter()
            .filter(|(_, pending)| over(pending))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.pending.remove(&id);
            self.free.push(id);
        }
    }

    fn settle(&mut self, pending: &Pending, message: &Message) {
        let code = message.code();
        *self.tally.codes.entry(code).or_default() += 1;
        self.tally.busy += u64::from(code == 51);
        if pending.fence.is_none() {
            self.tally.slowest = self.tally.slowest.max(pending.sent.elapsed());
        }
        let tag = match pending.kind {
            Kind::Search(_) => ops::SEARCH_DONE,
            Kind::Compare(_) => 0x6F,
            Kind::WhoAmI(_) | Kind::Cancel(_) => ops::EXTENDED_RESPONSE,
            Kind::Delete(_) => 0x6B,
            Kind::Bind(..) => ops::BIND_RESPONSE,
        };
        let failed = matches!(code, 51 | 52 | 80 | 3 | 11);
        let right = tag == message.tag
            && (failed
                || (pending.cancelled && code == 118)
                || match &pending.kind {
                    // Done, over already, or a write that is under way.
                    Kind::Cancel(_) => matches!(code, 0 | 119 | 120),
                    Kind::Search(_) => code == 0 && pending.entries == 1,
                    Kind::Compare(truth) => code == if *truth { 6 } else { 5 },
                    Kind::WhoAmI(who) => code == 0 && message.response_value().unwrap_or_default() == who.as_bytes(),
                    Kind::Delete(number) => code == 32 && message.matched_dn() == user(*number),
                    Kind::Bind(_, right) => code == if *right { 0 } else { 49 },
                });
        // An abandoned operation may have been stopped half-way; only a wrong kind of answer would be somebody else's.
        if !right && (pending.fence.is_none() || tag != message.tag) {
            self.tally.misdelivered += 1;
            self.note(&format!(
                "asked {:?} ({} entries), got {message:?}",
                pending.kind, pending.entries
            ));
        }
        match pending.kind {
            Kind::Bind(number, _) => {
                self.binding = false;
                self.identity = (code == 0).then_some(number);
                self.tally.bind_errors += u64::from(failed);
            }
            Kind::Delete(_) => self.tally.write_errors += u64::from(failed && pending.fence.is_none()),
            _ => self.tally.read_errors += u64::from(failed && pending.fence.is_none()),
        }
        if failed && pending.fence.is_none() {
            self.note(&format!(
                "{:?} after {:?}: {code} {}",
                pending.kind,
                pending.sent.elapsed(),
                message.diagnostic()
            ));
        }
    }

    /// What waits longer than the patience is counted once and given up with its connection.
    fn expire(&mut self) {
        let patience = self.load.patience;
        let missing = |pending: &Pending| pending.fence.is_none() && pending.sent.elapsed() > patience;
        let missing: Vec<String> = self
            .pending
            .values()
            .filter(|pending| missing(pending))
            .map(|pending| format!("{:?}", pending.kind))
            .collect();
        if !missing.is_empty() {
            self.tally.unanswered += missing.len() as u64;
            self.note(&format!("never answered: {missing:?}"));
            self.pending.clear();
            self.client = None;
            self.binding = false;
        }
    }

    fn disconnected(&mut self) {
        self.tally.disconnections += 1;
        self.note("the connection was closed");
        for (_, pending) in self.pending.drain().filter(|(_, pending)| pending.fence.is_none()) {
            match pending.kind {
                Kind::Bind(..) => self.tally.bind_errors += 1,
                Kind::Delete(_) => self.tally.write_errors += 1,
                _ => self.tally.read_errors += 1,
            }
        }
        self.client = None;
        self.binding = false;
    }

    /// Waits for what is under way, then a little longer for what must not come.
    fn finish(mut self) -> Tally {
        while self.client.is_some() && self.under_way() > 0 {
            self.take(Duration::from_millis(50));
            self.expire();
        }
        if self.client.is_some() {
            self.take(Duration::from_millis(200));
        }
        self.tally
    }
}
